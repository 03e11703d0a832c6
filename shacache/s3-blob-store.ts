import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { Client, CopyDestinationOptions, CopySourceOptions } from "minio";
import { ConfigError, type S3Config } from "../common/config.js";
import { AppError } from "../common/errors.js";
import type { BlobStore, OpenBlob, ReceivedBlob, ReceiveOptions } from "./blob-store.js";
import { Digesting } from "./digesting.js";

const partSizeBytes = 8 * 1024 * 1024;
/** MinIO reads a dropped GET to the end of the range that was asked for, so it is asked in windows (part 2, 3). */
const windowBytes = 8 * 1024 * 1024;
const openAttempts = 20;
const openRetryMs = 250;
/** S3 copies an object of up to 5 GiB in one call. */
const maxCopyBytes = 5 * 1024 ** 3;

/**
 * Blobs as objects `blobs/<sha512>` of a bucket. The name is known only after the last byte: a small upload waits for it in
 * memory, a larger one goes to `incoming/<id>` and is copied by the server to its name once its digest is known. That costs
 * the store a second write of the bytes, and buys that a name appears in one step, verified, and that the bucket alone says
 * what is stored.
 */
export async function openS3BlobStore(config: S3Config): Promise<BlobStore> {
  const { hostname, port, protocol } = new URL(config.endpoint);
  const client = new Client({
    endPoint: hostname.replace(/^\[|\]$/g, ""),
    useSSL: protocol === "https:",
    ...(port ? { port: Number(port) } : {}),
    accessKey: config.accessKey,
    secretKey: config.secretKey,
    partSize: partSizeBytes,
  });
  const store = new S3BlobStore(client, config.bucket);
  for (let attempt = 1; ; attempt++) {
    try {
      await store.prepare();
      return store;
    } catch (error) {
      const { code } = error as { code?: string };
      const passing = code === "XMinioServerNotInitialized" || code === "ServiceUnavailable" || code === "SlowDown";
      // MinIO listens before it can answer; anything else will not pass by itself.
      if (!passing || attempt >= openAttempts) {
        throw new ConfigError(`S3_ENDPOINT ${config.endpoint} cannot be used: ${(error as Error).message || code}`, {
          cause: error,
        });
      }
      await delay(openRetryMs);
    }
  }
}

class S3BlobStore implements BlobStore {
  readonly #client: Client;
  readonly #bucket: string;

  constructor(client: Client, bucket: string) {
    this.#client = client;
    this.#bucket = bucket;
  }

  async prepare(): Promise<void> {
    if (await this.#client.bucketExists(this.#bucket)) return;
    await this.#client.makeBucket(this.#bucket).catch((error) => {
      if ((error as { code?: string }).code !== "BucketAlreadyOwnedByYou") throw error;
    });
  }

  async receive(stream: Readable, options: ReceiveOptions): Promise<ReceivedBlob> {
    const digesting = new Digesting(options);
    const chunks = digesting.through(stream);
    const head: Buffer[] = [];
    let headBytes = 0;
    for (let next = await chunks.next(); ; next = await chunks.next()) {
      if (next.done) return this.#putWhole(Buffer.concat(head), digesting);
      head.push(next.value);
      headBytes += next.value.length;
      if (headBytes > partSizeBytes) return this.#putStream(head, chunks, digesting);
    }
  }

  /** What fits into memory is put under its name at once: an object appears whole or not at all. */
  async #putWhole(bytes: Buffer, { received }: Digesting): Promise<ReceivedBlob> {
    try {
      await this.#client.putObject(this.#bucket, nameOf(received.sha512), bytes, bytes.length);
      return received;
    } catch (error) {
      throw classify(error);
    }
  }

  async #putStream(head: Buffer[], rest: AsyncGenerator<Buffer>, digesting: Digesting): Promise<ReceivedBlob> {
    const temporary = `incoming/${randomUUID()}`;
    let refusal: unknown;
    // The library waits for ever on a stream that fails. So a refused upload ends as if it were whole, and what was put is removed.
    const body = async function* () {
      yield* head.splice(0);
      try {
        yield* rest;
      } catch (error) {
        refusal = error;
      }
    };
    try {
      await this.#client.putObject(this.#bucket, temporary, Readable.from(body(), { objectMode: false }));
      if (refusal !== undefined) throw refusal;
      const { sha512, sizeBytes } = digesting.received;
      if (sizeBytes > maxCopyBytes)
        throw new AppError("PAYLOAD_TOO_LARGE", `An S3 store takes blobs of up to ${maxCopyBytes} bytes.`);
      if ((await this.stat(sha512)) === null) {
        await this.#client.copyObject(
          new CopySourceOptions({ Bucket: this.#bucket, Object: temporary }),
          new CopyDestinationOptions({ Bucket: this.#bucket, Object: nameOf(sha512) }),
        );
      }
      return digesting.received;
    } catch (error) {
      throw error === refusal ? error : classify(error);
    } finally {
      await this.#client.removeObject(this.#bucket, temporary).catch(() => undefined);
    }
  }

  async open(sha512: string, range?: { start: number; end: number }): Promise<OpenBlob | null> {
    const found = await this.stat(sha512);
    if (found === null) return null;
    const { start, end } = range ?? { start: 0, end: found.sizeBytes - 1 };
    return {
      stream: Readable.from(this.#windows(nameOf(sha512), start, end), { objectMode: false }),
      sizeBytes: found.sizeBytes,
    };
  }

  async *#windows(name: string, start: number, end: number): AsyncGenerator<Buffer> {
    for (let from = start; from <= end; from += windowBytes) {
      const length = Math.min(windowBytes, end - from + 1);
      try {
        yield* (await this.#client.getPartialObject(this.#bucket, name, from, length)) as AsyncIterable<Buffer>;
      } catch (error) {
        throw classify(error);
      }
    }
  }

  async stat(sha512: string): Promise<{ sizeBytes: number } | null> {
    try {
      return { sizeBytes: (await this.#client.statObject(this.#bucket, nameOf(sha512))).size };
    } catch (error) {
      if (isAbsent(error)) return null;
      throw classify(error);
    }
  }

  async remove(sha512: string): Promise<void> {
    await this.#client.removeObject(this.#bucket, nameOf(sha512)).catch((error) => {
      throw classify(error);
    });
  }

  async sweepOrphans(olderThanMs: number): Promise<number> {
    let count = 0;
    const isOld = (at: Date | undefined) => at !== undefined && Date.now() - at.getTime() >= olderThanMs;
    for await (const item of this.#client.listObjectsV2(this.#bucket, "incoming/", true) as AsyncIterable<{
      name?: string;
      lastModified?: Date;
    }>) {
      if (item.name === undefined || !isOld(item.lastModified)) continue;
      await this.#client.removeObject(this.#bucket, item.name);
      count++;
    }
    for await (const upload of this.#client.listIncompleteUploads(this.#bucket, "incoming/", true) as AsyncIterable<{
      key: string;
      initiated?: Date;
    }>) {
      if (!isOld(upload.initiated)) continue;
      await this.#client.removeIncompleteUpload(this.#bucket, upload.key);
      count++;
    }
    return count;
  }

  async check(): Promise<void> {
    const exists = await this.#client.bucketExists(this.#bucket).catch((error) => {
      throw classify(error);
    });
    if (!exists) throw new AppError("UNAVAILABLE", "The bucket of the blob store is gone.");
  }

  async close(): Promise<void> {
    // The client holds no connection open that would keep the process.
  }
}

const nameOf = (sha512: string) => `blobs/${sha512}`;

/** The only answers that mean absence. Everything else that the library throws is a store that did not do its work. */
function isAbsent(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "NotFound" || code === "NoSuchKey";
}

function classify(error: unknown): unknown {
  if (error instanceof AppError) return error;
  const { code } = error as { code?: string };
  if (code === "XMinioStorageFull")
    return new AppError("STORAGE_FULL", "The blob store has no room left.", { cause: error });
  return new AppError("UNAVAILABLE", "The blob store does not answer just now. Try again in some seconds.", {
    cause: error,
  });
}
