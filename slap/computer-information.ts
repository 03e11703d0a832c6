import type { Caller } from "../common/identity.js";
import type { NodeView, NodeViewService } from "../subgraphs/computer/node-view.js";
import { encodeComputer, encodePartition } from "./codec.js";
import { dumps, dumpsPart, MarshalPart } from "./xml-marshaller.js";

/** All computers' answers together; the oldest read goes first. A hundred partitions take about 270 kB, and their parts as much. */
const maxCachedBytes = 128 * 1024 * 1024;

interface Answer {
  revision: number;
  bytes: Buffer;
  /** What was written of each partition, and of which version of it. */
  parts: Map<string, { version: string; bytes: Buffer }>;
}

/**
 * getFullComputerInformation as bytes, kept by the computer's revision: a poll of an unchanged computer is one look-up by
 * primary key. Whatever a node reads raises that revision in the transaction that changes it, so no answer is stale. After
 * a change only the partitions that differ are read and written again.
 */
export class ComputerInformation {
  readonly #nodeViews: NodeViewService;
  readonly #cache = new Map<string, Answer>();
  readonly #reading = new Map<string, Promise<Answer>>();
  #cachedBytes = 0;

  constructor(nodeViews: NodeViewService) {
    this.#nodeViews = nodeViews;
  }

  async read(caller: Caller, reference: string): Promise<Buffer> {
    if (caller.kind === "instance") {
      const view = await this.#nodeViews.viewOfInstance(caller, reference);
      return toAnswer(view, new Map()).bytes;
    }
    const revision = await this.#nodeViews.revisionOf(caller, reference);
    const cached = this.#cache.get(reference);
    if (cached?.revision === revision) {
      this.#cache.delete(reference);
      this.#cache.set(reference, cached);
      return cached.bytes;
    }
    // Whoever asks while the same is being read waits for that, unless it turns out to be older than what was asked for.
    const reading = await this.#reading.get(reference)?.catch(() => undefined);
    if (reading && reading.revision >= revision) return reading.bytes;
    const answering = this.#readAnew(caller, reference);
    this.#reading.set(reference, answering);
    try {
      return (await answering).bytes;
    } finally {
      if (this.#reading.get(reference) === answering) this.#reading.delete(reference);
    }
  }

  async #readAnew(caller: Caller, reference: string): Promise<Answer> {
    const known = this.#cache.get(reference)?.parts ?? new Map();
    const versions = new Map([...known].map(([key, { version }]) => [key, version]));
    const answer = toAnswer(await this.#nodeViews.viewOf(caller, reference, versions), known);
    this.#keep(reference, answer);
    return answer;
  }

  #keep(reference: string, answer: Answer): void {
    if ((this.#cache.get(reference)?.revision ?? 0) > answer.revision) return;
    this.#drop(reference);
    this.#cache.set(reference, answer);
    this.#cachedBytes += sizeOf(answer);
    for (const oldest of this.#cache.keys()) {
      if (this.#cachedBytes <= maxCachedBytes) return;
      this.#drop(oldest);
    }
  }

  #drop(reference: string): void {
    const answer = this.#cache.get(reference);
    if (answer) this.#cachedBytes -= sizeOf(answer);
    this.#cache.delete(reference);
  }
}

/** The parts are about as large as the whole. */
const sizeOf = ({ bytes }: Answer) => 2 * bytes.length;

/** A character that XML forbids, and so nothing else that is written. */
const placeOfPartitions = new MarshalPart("\0");

function toAnswer(view: NodeView, known: Answer["parts"]): Answer {
  const parts: Answer["parts"] = new Map();
  for (const { key, version, hosted } of view.partitions) {
    const bytes = hosted === null ? known.get(key)?.bytes : Buffer.from(dumpsPart(encodePartition(hosted)).xml);
    // Gone between two reads of the same snapshot it cannot be, nor known without its bytes.
    if (bytes) parts.set(key, { version, bytes });
  }
  // Of a large answer most is copied as it was: making one text of it, and bytes of that, costs four times as much.
  const document = dumps(encodeComputer(view, parts.size > 0 ? [placeOfPartitions] : []));
  const [head = "", tail = ""] = document.split(placeOfPartitions.xml);
  const written = [...parts.values()].map(({ bytes }) => bytes);
  return { revision: view.revision, bytes: Buffer.concat([Buffer.from(head), ...written, Buffer.from(tail)]), parts };
}
