import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { AppError } from "../../common/errors.js";
import type { Logger } from "../../common/log.js";
import type { DirectoryEntryService } from "../directory-entry/directory-entry.service.js";
import { Remembered } from "./remembered.js";
import { type Upstream, UpstreamError } from "./upstream.js";
import { onwardVia } from "./via.js";

/** How long the entries of a key are taken to be as upstream had them, none included. */
const freshMs = 30_000;
const maxRemembered = 10_000;
const maxAnswerBytes = 4 * 1024 * 1024;
/** A reader waits 60 s at most; what takes longer is there for the next one. */
const maxWaitMs = 20_000;
const maxEntries = 100;

/**
 * What upstream directories have under a key becomes ours when the key is read, and stays when they are gone. Entries are
 * signed by who made them, so their readers trust them as they would upstream's.
 */
export class DirectoryPullService {
  readonly #entries: DirectoryEntryService;
  readonly #upstreams: readonly Upstream[];
  readonly #log: Logger;
  readonly #fresh = new Remembered(freshMs, maxRemembered);
  readonly #underWay = new Map<string, Promise<void>>();

  constructor(entries: DirectoryEntryService, upstreams: readonly Upstream[], log: Logger) {
    this.#entries = entries;
    this.#upstreams = upstreams;
    this.#log = log;
  }

  /** Takes over what the upstreams have under the key. One that is down, slow or talks nonsense changes nothing. */
  async refresh(key: string, via: string | undefined): Promise<void> {
    const onward = this.#upstreams.length === 0 || this.#fresh.has(key) ? null : onwardVia(via);
    if (onward === null) return;
    // As with blobs, other caches do not wait for what waits for them.
    const taking = via === undefined ? this.#takeOverOnce(key, onward) : this.#takeOver(key, onward);
    taking.catch(() => undefined);
    const patience = new AbortController();
    await Promise.race([taking, delay(maxWaitMs, undefined, { signal: patience.signal }).catch(() => undefined)]);
    patience.abort();
  }

  close(): void {
    for (const upstream of this.#upstreams) upstream.close();
  }

  #takeOverOnce(key: string, via: string): Promise<void> {
    const underWay = this.#underWay.get(key) ?? this.#takeOver(key, via).finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, underWay);
    return underWay;
  }

  async #takeOver(key: string, via: string): Promise<void> {
    const answers = await Promise.all(this.#upstreams.map((upstream) => this.#ask(upstream, key, via)));
    const sources = new Map<string, Upstream>();
    for (const { upstream, bodies } of answers)
      for (const body of bodies) sources.set(body, sources.get(body) ?? upstream);
    // The newest of the first upstream comes last, because what is put last is read first.
    for (const [body, upstream] of [...sources].toReversed()) await this.#put(upstream, key, body);
    if (answers.every(({ hasAnswered }) => hasAnswered)) this.#fresh.add(key);
  }

  async #ask(upstream: Upstream, key: string, via: string) {
    if (upstream.isResting) return { upstream, bodies: [], hasAnswered: false };
    try {
      const answer = await upstream.get(key, via, new AbortController().signal);
      const bodies = answer === null ? [] : toBodies(await readText(answer.body));
      return { upstream, bodies, hasAnswered: true };
    } catch (error) {
      this.#log.warn(
        { upstream: upstream.url, key, reason: String(error) },
        "an upstream directory does not do its work",
      );
      return { upstream, bodies: [], hasAnswered: false };
    }
  }

  async #put(upstream: Upstream, key: string, body: string): Promise<void> {
    try {
      await this.#entries.keep(key, body, `upstream ${new URL(upstream.url).host}`);
    } catch (error) {
      // What ours refuses, for its form or by policy, is upstream's business; the database being away is not.
      if (!(error instanceof AppError) || error.httpStatus >= 500) throw error;
    }
  }
}

async function readText(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxAnswerBytes) throw new UpstreamError("The answer is too large.");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Each pair as libnetworkcache writes it, so that the same entry put here by a node is the same one. */
function toBodies(text: string): string[] {
  const pairs = JSON.parse(text) as unknown;
  if (!Array.isArray(pairs)) throw new UpstreamError("The answer is not a list.");
  return pairs.slice(0, maxEntries).map((pair) => {
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((part) => typeof part === "string"))
      throw new UpstreamError("The answer is not a list of pairs.");
    return `[${pair.map(toAsciiJson).join(", ")}]`;
  });
}

const toAsciiJson = (text: string) =>
  JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
