import { AppError } from "../../common/errors.js";
import type { Logger } from "../../common/log.js";
import { type ArtifactService, maxBlobBytes } from "../artifact/artifact.service.js";
import { BlobSearch, type Found } from "./blob-search.js";
import { Pull, type PullReader } from "./pull.js";
import { Spool } from "./spool.js";
import type { Upstream } from "./upstream.js";
import { onwardVia } from "./via.js";

/** Each holds a file and a connection. */
const maxPulls = 32;

/** What our cache does not have, it asks of others: one pull for a blob however many read it, and nothing kept that is not verified. */
export class BlobPullService {
  readonly #artifacts: ArtifactService;
  readonly #search: BlobSearch;
  readonly #folder: string;
  readonly #log: Logger;
  readonly #pulls = new Map<string, Pull>();
  readonly #searches = new Map<string, Promise<Pull | "stored" | null>>();

  /** `folder`: where bytes wait for their verdict. */
  constructor(artifacts: ArtifactService, upstreams: readonly Upstream[], folder: string, log: Logger) {
    this.#artifacts = artifacts;
    this.#search = new BlobSearch(upstreams, log);
    this.#folder = folder;
    this.#log = log;
  }

  /** The size of a blob that an upstream has; none of its bytes are asked for. */
  async stat(sha512: string, via: string | undefined): Promise<{ sizeBytes: number | null } | null> {
    const running = this.#pulls.get(sha512);
    if (running?.isJoinable) return { sizeBytes: running.sizeBytes };
    const onward = this.#onward(via);
    if (onward === null) return null;
    const found = await this.#search.stat(sha512, onward, new AbortController().signal);
    return isTooLarge(found) ? null : found;
  }

  /** A reader of a blob that is pulled or begins to be, `stored` where it has come meanwhile, null where no upstream has it. */
  async open(sha512: string, via: string | undefined): Promise<PullReader | "stored" | null> {
    const running = this.#pulls.get(sha512);
    if (running?.isJoinable) return running.join();
    const onward = this.#onward(via);
    if (onward === null) return null;
    const found = await this.#begin(sha512, onward, via === undefined);
    return found instanceof Pull ? found.join() : found;
  }

  async close(): Promise<void> {
    for (const pull of this.#pulls.values()) pull.abandon("The cache stops.");
    await Promise.all([...this.#pulls.values()].map((pull) => pull.ended));
    for (const upstream of this.#search.upstreams) upstream.close();
  }

  #onward(via: string | undefined): string | null {
    return this.#search.upstreams.length === 0 ? null : onwardVia(via);
  }

  /**
   * Readers wait for one search together. Other caches don't: two caches that ask each other at once for what neither has
   * would wait for each other.
   */
  #begin(sha512: string, via: string, mayWait: boolean): Promise<Pull | "stored" | null> {
    if (!mayWait) return this.#searchAndPull(sha512, via);
    const underWay = this.#searches.get(sha512);
    if (underWay) return underWay;
    const search = this.#searchAndPull(sha512, via).finally(() => this.#searches.delete(sha512));
    this.#searches.set(sha512, search);
    return search;
  }

  async #searchAndPull(sha512: string, via: string): Promise<Pull | "stored" | null> {
    // A pull may have ended between the reader's look into the store and now.
    if (await this.#artifacts.isNamed(sha512)) return "stored";
    if (this.#pulls.size >= maxPulls)
      throw new AppError("UNAVAILABLE", "Many blobs are on their way from upstream. Try again in some seconds.");
    const stop = new AbortController();
    const found = await this.#search.open(sha512, via, stop.signal);
    if (found === null) return null;
    try {
      if (isTooLarge(found)) throw new AppError("NOT_FOUND", "What upstream has is too large.");
      // What could not be kept at its end would break off there, for each reader anew.
      await this.#artifacts.requireRoom(found.sizeBytes ?? 0);
      const spool = await Spool.open(this.#folder);
      const running = this.#pulls.get(sha512);
      if (!running?.isJoinable) return this.#pull(sha512, found, via, spool, stop);
      // Another cache's search was faster.
      stop.abort();
      await spool.release();
      return running;
    } catch (error) {
      stop.abort();
      throw error;
    }
  }

  #pull(sha512: string, found: Found, via: string, spool: Spool, stop: AbortController): Pull {
    const used = new Set<Upstream>();
    const pull = new Pull(this.#search.read(sha512, found, via, stop.signal, used), {
      sizeBytes: found.sizeBytes,
      spool,
      stop,
      store: async (bytes, sizeBytes) => {
        const expected = { expectedSha512: sha512, ...(sizeBytes === null ? {} : { expectedSizeBytes: sizeBytes }) };
        await this.#artifacts.keep(bytes, expected, `upstream ${new URL(found.upstream.url).host}`);
      },
    });
    this.#pulls.set(sha512, pull);
    void pull.ended.then(() => {
      if (this.#pulls.get(sha512) === pull) this.#pulls.delete(sha512);
      this.#judge(sha512, pull, used);
    });
    return pull;
  }

  #judge(sha512: string, { failure, wasAbandoned }: Pull, used: Set<Upstream>): void {
    if (failure === undefined || wasAbandoned) return;
    const isWrong = failure instanceof AppError && ["DIGEST_MISMATCH", "BAD_USER_INPUT"].includes(failure.code);
    if (isWrong) this.#search.distrust(sha512, used);
    const upstreams = [...used].map(({ url }) => url);
    this.#log.warn({ sha512, upstreams, reason: String(failure) }, "a blob from upstream was not kept");
  }
}

const isTooLarge = (found: { sizeBytes: number | null } | null) => (found?.sizeBytes ?? 0) > maxBlobBytes;
