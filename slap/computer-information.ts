import type { Caller } from "../common/identity.js";
import type { NodeViewService } from "../subgraphs/computer/node-view.js";
import { encodeComputer } from "./codec.js";
import { dumps } from "./xml-marshaller.js";

/** All computers' answers together; the oldest read goes first. A hundred partitions take about 270 kB. */
const maxCachedBytes = 64 * 1024 * 1024;

/**
 * getFullComputerInformation as bytes, kept by the computer's revision: a poll of an unchanged computer is one look-up by
 * primary key. Whatever a node reads raises that revision in the transaction that changes it, so no answer is stale.
 */
export class ComputerInformation {
  readonly #nodeViews: NodeViewService;
  readonly #cache = new Map<string, { revision: number; bytes: Buffer }>();
  #cachedBytes = 0;

  constructor(nodeViews: NodeViewService) {
    this.#nodeViews = nodeViews;
  }

  async read(caller: Caller, reference: string): Promise<Buffer> {
    if (caller.kind === "instance") {
      return Buffer.from(dumps(encodeComputer(await this.#nodeViews.viewOfInstance(caller, reference))));
    }
    const revision = await this.#nodeViews.revisionOf(caller, reference);
    const cached = this.#cache.get(reference);
    if (cached?.revision === revision) {
      this.#cache.delete(reference);
      this.#cache.set(reference, cached);
      return cached.bytes;
    }
    const view = await this.#nodeViews.viewOf(caller, reference);
    const bytes = Buffer.from(dumps(encodeComputer(view)));
    this.#keep(reference, { revision: view.revision, bytes });
    return bytes;
  }

  #keep(reference: string, entry: { revision: number; bytes: Buffer }): void {
    this.#drop(reference);
    this.#cache.set(reference, entry);
    this.#cachedBytes += entry.bytes.length;
    for (const oldest of this.#cache.keys()) {
      if (this.#cachedBytes <= maxCachedBytes) return;
      this.#drop(oldest);
    }
  }

  #drop(reference: string): void {
    this.#cachedBytes -= this.#cache.get(reference)?.bytes.length ?? 0;
    this.#cache.delete(reference);
  }
}
