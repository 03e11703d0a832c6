import { EventEmitter, once } from "node:events";
import { Readable } from "node:stream";
import type { ByteRange } from "../blob-store.js";
import type { Spool } from "./spool.js";
import { UpstreamError } from "./upstream.js";

/** The pull runs at most this far ahead of its foremost reader, so that a reader who only asks whether a blob exists costs little. */
const lookaheadBytes = 4 * 1024 * 1024;
/** No reader has taken anything for so long: the pull is not worth its place any more. */
const idleMs = 300_000;

export interface PullReader {
  sizeBytes: number | null;
  /** Follows the pull to the end of the range; breaks off when the pull fails. */
  read(range?: ByteRange): AsyncIterable<Buffer>;
  leave(): Promise<void>;
}

export type StoreBlob = (bytes: Readable, sizeBytes: number | null) => Promise<void>;

/**
 * One blob on its way in from upstream: stored, and followed by all its readers meanwhile. What it has is unverified until
 * the store has compared and committed it, so a reader's last byte waits for that: nobody gets a whole transfer of a blob
 * that turns out wrong. Without readers it is given up, unless most of it has come.
 */
export class Pull {
  /** Of the whole blob; null where no upstream says it. */
  readonly sizeBytes: number | null;
  /** Settles when the blob is stored or given up; never rejects. */
  readonly ended: Promise<void>;
  /** It was ended from here, which is no fault of any upstream. */
  wasAbandoned = false;
  readonly #spool: Spool;
  readonly #changed = new EventEmitter().setMaxListeners(0);
  readonly #stop: AbortController;
  #state: "running" | "stored" | "failed" = "running";
  #failure: unknown;
  #readers = 0;
  #foremost = 0;

  constructor(
    source: AsyncIterable<Buffer>,
    {
      sizeBytes,
      spool,
      store,
      stop,
    }: { sizeBytes: number | null; spool: Spool; store: StoreBlob; stop: AbortController },
  ) {
    this.sizeBytes = sizeBytes;
    this.#spool = spool;
    this.#stop = stop;
    this.ended = this.#run(source, store);
  }

  async #run(source: AsyncIterable<Buffer>, store: StoreBlob): Promise<void> {
    const bytes = Readable.from(this.#spooled(source), { objectMode: false, highWaterMark: 1 });
    bytes.on("error", () => undefined);
    try {
      await store(bytes, this.sizeBytes);
      this.#state = "stored";
    } catch (error) {
      this.#failure = error;
      this.#state = "failed";
    }
    bytes.destroy();
    this.#stop.abort();
    this.#changed.emit("changed");
    await this.#spool.release();
  }

  /** Why it was given up. */
  get failure(): unknown {
    return this.#failure;
  }

  async *#spooled(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      await this.#spool.append(chunk);
      this.#changed.emit("changed");
      yield chunk;
      while (this.#readers > 0 && this.#spool.sizeBytes - this.#foremost > lookaheadBytes) await this.#nextRead();
      this.#stop.signal.throwIfAborted();
    }
  }

  async #nextRead(): Promise<void> {
    const idle = new AbortController();
    const timer = setTimeout(() => idle.abort(new UpstreamError("Its readers take nothing.")), idleMs);
    try {
      await once(this.#changed, "read", { signal: idle.signal });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends it, whoever reads. */
  abandon(why: string): void {
    this.wasAbandoned = true;
    this.#stop.abort(new UpstreamError(why));
    this.#changed.emit("read");
  }

  /** False once it ends: whoever comes then looks into the store, or begins another. */
  get isJoinable(): boolean {
    return this.#state === "running" && !this.#stop.signal.aborted;
  }

  /** Makes a reader of whoever calls, who has to `leave` in any case: the last one to leave too early ends the pull. */
  join(): PullReader {
    this.#readers++;
    this.#spool.hold();
    const reader = { hasLeft: false };
    return {
      sizeBytes: this.sizeBytes,
      read: (range) =>
        this.#follow(reader, range ?? { start: 0, end: (this.sizeBytes ?? Number.POSITIVE_INFINITY) - 1 }),
      leave: async () => {
        if (reader.hasLeft) return;
        reader.hasLeft = true;
        this.#readers--;
        const mostIsHere = this.sizeBytes !== null && this.#spool.sizeBytes * 2 >= this.sizeBytes;
        if (this.#readers === 0 && !mostIsHere) this.abandon("Nobody reads it any more.");
        this.#changed.emit("read");
        this.#changed.emit("changed");
        await this.#spool.release();
      },
    };
  }

  async *#follow(reader: { hasLeft: boolean }, { start, end }: ByteRange): AsyncGenerator<Buffer> {
    for (let position = start; !reader.hasLeft; ) {
      if (this.#state === "failed") throw this.#failure;
      const isStored = this.#state === "stored";
      // The last byte that this reader wants, and the last one that there is, wait for the verdict.
      const limit = isStored ? Math.min(end + 1, this.#spool.sizeBytes) : Math.min(end, this.#spool.sizeBytes - 1);
      if (position < limit) {
        const chunk = await this.#spool.read(position, limit);
        position += chunk.length;
        this.#hasRead(position);
        yield chunk;
      } else if (isStored) return;
      else {
        // Who waits for the verdict only needs all the rest to come, however little of it he reads.
        this.#hasRead(position < end ? position : Number.POSITIVE_INFINITY);
        await once(this.#changed, "changed");
      }
    }
  }

  #hasRead(position: number): void {
    this.#foremost = Math.max(this.#foremost, position);
    this.#changed.emit("read");
  }
}
