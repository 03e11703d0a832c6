import { randomUUID } from "node:crypto";
import { Agent } from "node:http";
import { Agent as TlsAgent } from "node:https";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { Client, CopyDestinationOptions, CopySourceOptions } from "minio";
import { ConfigError, type S3Config } from "../common/config.js";
import { AppError } from "../common/errors.js";
import {
  type BlobStore,
  type ByteRange,
  type OpenBlob,
  quarantineTermMs,
  type ReceivedBlob,
  type ReceiveOptions,
  type StoredObject,
} from "./blob-store.js";
import { digestInto } from "./digest-into.js";
import { release } from "./release.js";
import { S3RecordStore } from "./s3-record-store.js";
import { S3Upload } from "./s3-upload.js";

/**
 * MinIO reads a dropped GET to the end of the range that was asked for, so it is asked in windows (part 2, 3). Whoever has
 * read one to its end is no probe and will read on: the next is larger.
 */
const firstWindowBytes = 8 * 1024 * 1024;
const largestWindowBytes = 128 * 1024 * 1024;
const openAttempts = 20;
const openRetryMs = 250;
/** A store that says nothing for so long is away. */
const silenceMs = 30_000;
/** S3 copies an object of up to 5 GiB in one call. */
const maxCopyBytes = 5 * 1024 ** 3;

/**
 * Blobs as objects `blobs/<name>` of a bucket. The digest is known only after the last byte, and S3 cannot rename: so the
 * name is the upload's own, and the bytes are written once, whatever their size. A small blob waits in memory until its
 * digest is known and has it in its name, for people who look into the bucket.
 */
export async function openS3BlobStore(config: S3Config): Promise<BlobStore> {
  const agentOptions = { keepAlive: true, maxSockets: 256, timeout: silenceMs };
  const useSSL = new URL(config.endpoint).protocol === "https:";
  const transportAgent = watching(useSSL ? new TlsAgent(agentOptions) : new Agent(agentOptions));
  const client = new Client({ ...clientOptions(config, config.endpoint), transportAgent });
  const store = new S3BlobStore(client, config);
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

function clientOptions({ accessKey, secretKey }: S3Config, endpoint: string) {
  const { hostname, port, protocol } = new URL(endpoint);
  const endPoint = hostname.replace(/^\[|\]$/g, "");
  return { endPoint, useSSL: protocol === "https:", ...(port ? { port: Number(port) } : {}), accessKey, secretKey };
}

/**
 * The library waits for ever on a server that has stopped in the middle; the agent ends such a connection. And it gives the
 * memory of what was read back once the parser has copied from it.
 */
function watching(agent: Agent): Agent {
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options, callback) => {
    const socket = connect(options, callback);
    socket?.once("timeout", () => socket.destroy(new Error("The S3 server has said nothing for too long.")));
    socket?.on("data", (bytes: Buffer) => process.nextTick(release, bytes));
    return socket;
  };
  return agent;
}

class S3BlobStore implements BlobStore {
  readonly records: S3RecordStore;
  readonly #client: Client;
  readonly #bucket: string;
  readonly #config: S3Config;

  constructor(client: Client, config: S3Config) {
    this.#client = client;
    this.#bucket = config.bucket;
    this.#config = config;
    this.records = new S3RecordStore(client, config.bucket, classify);
  }

  async prepare(): Promise<void> {
    if (await this.#client.bucketExists(this.#bucket)) return;
    await this.#client.makeBucket(this.#bucket).catch((error) => {
      if ((error as { code?: string }).code !== "BucketAlreadyOwnedByYou") throw error;
    });
  }

  async receive(stream: Readable, options: ReceiveOptions): Promise<ReceivedBlob> {
    const id = randomUUID();
    const upload = new S3Upload(this.#client, this.#bucket, `blobs/${id}`, options.expectedSizeBytes);
    try {
      let adding = Promise.resolve();
      const received = await digestInto(stream, options, (chunk) => {
        adding = adding.then(() => upload.add(chunk));
        return adding;
      });
      if (upload.isMultipart) {
        await upload.complete();
        return { ...received, location: id };
      }
      const location = `${received.sha512}.${id}`;
      await this.#client.putObject(this.#bucket, nameOf(location), upload.held, upload.held.length);
      return { ...received, location };
    } catch (error) {
      await upload.abort();
      // A broken stream is the client's, the rest is the store's.
      throw stream.errored === error ? error : classify(error);
    }
  }

  async open(location: string, { start, end }: ByteRange): Promise<OpenBlob | null> {
    const reader = new WindowedReader((from, to) => this.#read(location, from, to), start, end);
    return (await reader.begin()) ? reader : null;
  }

  async read(location: string, sizeBytes: number): Promise<Buffer | null> {
    if (sizeBytes === 0) return (await this.stat(location)) && Buffer.alloc(0);
    try {
      const stream = await this.#read(location, 0, sizeBytes - 1);
      return stream === null ? Buffer.alloc(0) : await buffer(stream);
    } catch (error) {
      if (isAbsent(error)) return null;
      throw classify(error);
    }
  }

  /** Null where the object ends before the range. */
  async #read(location: string, from: number, to: number): Promise<Readable | null> {
    try {
      return await this.#client.getPartialObject(this.#bucket, nameOf(location), from, to - from + 1);
    } catch (error) {
      if ((error as { code?: string }).code === "InvalidRange") return null;
      throw error;
    }
  }

  async stat(location: string): Promise<{ sizeBytes: number } | null> {
    try {
      return { sizeBytes: (await this.#client.statObject(this.#bucket, nameOf(location))).size };
    } catch (error) {
      if (isAbsent(error)) return null;
      throw classify(error);
    }
  }

  stampOf(): undefined {
    return undefined;
  }

  /** Signed for the endpoint as clients reach it, because the host is part of what is signed. */
  async directUrl(location: string, termSeconds: number): Promise<string | null> {
    try {
      const region = await this.#client.getBucketRegionAsync(this.#bucket);
      const endpoint = this.#config.publicEndpoint ?? this.#config.endpoint;
      const signer = new Client({ ...clientOptions(this.#config, endpoint), region });
      return await signer.presignedGetObject(this.#bucket, nameOf(location), termSeconds);
    } catch (error) {
      throw classify(error);
    }
  }

  async remove(location: string): Promise<void> {
    await this.#client.removeObject(this.#bucket, nameOf(location)).catch((error) => {
      throw classify(error);
    });
  }

  async quarantine(location: string): Promise<void> {
    const found = await this.stat(location);
    if (found === null) return;
    try {
      // What is too large for one copy is removed: that nobody reads it matters more than that it can be looked at.
      if (found.sizeBytes <= maxCopyBytes) {
        await this.#client.copyObject(
          new CopySourceOptions({ Bucket: this.#bucket, Object: nameOf(location) }),
          new CopyDestinationOptions({ Bucket: this.#bucket, Object: `quarantine/${location}` }),
        );
      }
      await this.#client.removeObject(this.#bucket, nameOf(location));
    } catch (error) {
      throw classify(error);
    }
  }

  async *list(): AsyncGenerator<StoredObject> {
    try {
      for await (const { name, size, lastModified } of this.#objects("blobs/"))
        yield { location: name.slice("blobs/".length), sizeBytes: size, modifiedAt: lastModified };
    } catch (error) {
      throw classify(error);
    }
  }

  async sweep(olderThanMs: number): Promise<number> {
    let count = 0;
    try {
      for await (const { name, lastModified } of this.#objects("quarantine/")) {
        if (Date.now() - lastModified.getTime() < quarantineTermMs) continue;
        await this.#client.removeObject(this.#bucket, name);
        count++;
      }
      for await (const { key, uploadId, initiated } of unfinishedUploads(this.#client, this.#bucket)) {
        if (!key.startsWith("blobs/")) continue;
        if (!initiated || Date.now() - initiated.getTime() < olderThanMs) continue;
        await this.#client.abortMultipartUpload(this.#bucket, key, uploadId).catch((error) => {
          // Its sender ended it meanwhile.
          if (error.code !== "NoSuchUpload") throw error;
        });
        count++;
      }
    } catch (error) {
      throw classify(error);
    }
    return count;
  }

  #objects(prefix: string): AsyncIterable<{ name: string; size: number; lastModified: Date }> {
    return this.#client.listObjectsV2(this.#bucket, prefix, true) as AsyncIterable<never>;
  }

  async check(): Promise<void> {
    const exists = await this.#client.bucketExists(this.#bucket).catch((error) => {
      throw classify(error);
    });
    if (!exists) throw new AppError("UNAVAILABLE", "The bucket of the blob store is gone.");
  }

  async close(): Promise<void> {
    // Idle connections are closed by their agent and do not keep the process.
  }
}

/** Reads a range of an object window by window, each asked for when the one before it is used up. */
class WindowedReader implements OpenBlob {
  readonly #read: (from: number, to: number) => Promise<Readable | null>;
  readonly #end: number;
  #position: number;
  #window: Readable | null = null;
  #windowBytes = firstWindowBytes;
  #isClosed = false;

  constructor(read: (from: number, to: number) => Promise<Readable | null>, start: number, end: number) {
    this.#read = read;
    this.#position = start;
    this.#end = end;
  }

  /** False when there is no such object. */
  async begin(): Promise<boolean> {
    try {
      await this.#nextWindow();
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw classify(error);
    }
  }

  get pieces(): AsyncIterable<Buffer> {
    return this.#pieces();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#window?.destroy();
  }

  async *#pieces(): AsyncGenerator<Buffer> {
    while (this.#window !== null) {
      const from = this.#position;
      try {
        for await (const piece of this.#window as AsyncIterable<Buffer>) {
          this.#position += piece.length;
          yield piece;
          release(piece);
        }
        if (this.#position > this.#end || this.#position === from || this.#isClosed) return;
        await this.#nextWindow();
      } catch (error) {
        // A reader that paused for long, or a server that was restarted, loses the connection: as long as there is
        // progress, the rest is asked for again.
        if (this.#isClosed || this.#position === from) throw classify(error);
        await this.#nextWindow().catch((again) => {
          throw classify(again);
        });
      }
    }
  }

  async #nextWindow(): Promise<void> {
    const to = Math.min(this.#position + this.#windowBytes - 1, this.#end);
    this.#windowBytes = Math.min(this.#windowBytes * 4, largestWindowBytes);
    this.#window = await this.#read(this.#position, to);
    if (this.#isClosed) this.#window?.destroy();
  }
}

/**
 * The library's own list asks for the parts of each upload, and fails when one has ended meanwhile. MinIO finds them by
 * their whole name or without any, not by the beginning of one.
 */
export async function* unfinishedUploads(
  client: Client,
  bucket: string,
): AsyncGenerator<{ key: string; uploadId: string; initiated?: Date }> {
  for (let key = "", uploadId = ""; ; ) {
    const page = await client.listIncompleteUploadsQuery(bucket, "", key, uploadId, "");
    yield* page.uploads;
    if (!page.isTruncated) return;
    key = page.nextKeyMarker;
    uploadId = page.nextUploadIdMarker;
  }
}

const nameOf = (location: string) => `blobs/${location}`;

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
