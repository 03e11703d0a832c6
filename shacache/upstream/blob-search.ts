import type { Logger } from "../../common/log.js";
import { Remembered } from "./remembered.js";
import { type Upstream, type UpstreamAnswer, UpstreamError } from "./upstream.js";

export interface Found extends UpstreamAnswer {
  upstream: Upstream;
}

/** Wrong bytes are remembered longer than an absence: they will still be wrong. */
const lieTermMs = 600_000;
const absenceTermMs = 30_000;
const maxRemembered = 10_000;
/** A reader waits 60 s for its first byte (shacache-protocol.md §1.2), so the search for it ends well before. */
const maxSearchMs = 30_000;
const maxSources = 6;

/** Looks for a blob in the upstreams, in their order, past those that are down, slow, or have sent wrong bytes for it. */
export class BlobSearch {
  readonly upstreams: readonly Upstream[];
  readonly #log: Logger;
  readonly #absent = new Remembered(absenceTermMs, maxRemembered);
  readonly #lies = new Remembered(lieTermMs, maxRemembered);

  constructor(upstreams: readonly Upstream[], log: Logger) {
    this.upstreams = upstreams;
    this.#log = log;
  }

  /** The first upstream's answer that has the blob from a byte on. Null where none has it, or none can say. */
  open(sha512: string, via: string, signal: AbortSignal, from = 0, without?: Set<Upstream>): Promise<Found | null> {
    const get = async (upstream: Upstream) => {
      const answer = await upstream.get(sha512, via, signal, from);
      return answer && { ...answer, upstream };
    };
    return this.#first(sha512, get, without);
  }

  stat(sha512: string, via: string, signal: AbortSignal): Promise<{ sizeBytes: number | null } | null> {
    return this.#first(sha512, (upstream) => upstream.head(sha512, via, signal));
  }

  async #first<T>(
    sha512: string,
    ask: (upstream: Upstream) => Promise<T | null>,
    without?: Set<Upstream>,
  ): Promise<T | null> {
    if (this.#absent.has(sha512)) return null;
    const deadline = Date.now() + maxSearchMs;
    let everyoneSaidNo = true;
    for (const upstream of this.upstreams) {
      if (this.#lies.has(`${upstream.url} ${sha512}`)) continue;
      if (upstream.isResting || without?.has(upstream) || Date.now() > deadline) {
        everyoneSaidNo = false;
        continue;
      }
      try {
        const answer = await ask(upstream);
        if (answer !== null) return answer;
      } catch (error) {
        if (!(error instanceof UpstreamError)) throw error;
        everyoneSaidNo = false;
        this.#log.warn({ upstream: upstream.url, reason: error.message }, "an upstream cache does not do its work");
      }
    }
    // What nobody could be asked about is not absent: the next reader asks again.
    if (everyoneSaidNo) this.#absent.add(sha512);
    return null;
  }

  /** The blob's bytes, going on from another upstream, or the same one again, where one breaks off. */
  async *read(
    sha512: string,
    first: Found,
    via: string,
    signal: AbortSignal,
    used: Set<Upstream>,
  ): AsyncGenerator<Buffer> {
    const broken = new Set<Upstream>();
    let position = 0;
    let source: Found | null = first;
    for (let sources = 1; source !== null && sources <= maxSources; sources++) {
      used.add(source.upstream);
      let skipBytes = position - source.from;
      try {
        for await (const chunk of source.body as AsyncIterable<Buffer>) {
          const kept = chunk.subarray(Math.min(skipBytes, chunk.length));
          skipBytes -= chunk.length - kept.length;
          position += kept.length;
          if (kept.length > 0) yield kept;
        }
        if (first.sizeBytes === null || position >= first.sizeBytes) return;
      } catch (error) {
        signal.throwIfAborted();
        this.#log.warn({ upstream: source.upstream.url, position, reason: String(error) }, "an upstream broke off");
      }
      broken.add(source.upstream);
      // Where all others have none of it, one that broke off may have come back.
      source =
        (await this.open(sha512, via, signal, position, broken)) ?? (await this.open(sha512, via, signal, position));
    }
    throw new UpstreamError(`No upstream sends the rest from byte ${position} on.`);
  }

  /** Not asked of them again for a while. */
  distrust(sha512: string, upstreams: Iterable<Upstream>): void {
    for (const upstream of upstreams) this.#lies.add(`${upstream.url} ${sha512}`);
  }
}
