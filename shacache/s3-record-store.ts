import { text } from "node:stream/consumers";
import type { Client } from "minio";
import { type AppError, toAppError } from "../common/errors.js";
import type { RecordStore, StoredRecord } from "./record-store.js";

const prefix = "records/";
const readAhead = 16;

/** Records as objects `records/<name>` of the bucket of the blobs. */
export class S3RecordStore implements RecordStore {
  readonly #client: Client;
  readonly #bucket: string;
  readonly #classify: (error: unknown) => unknown;

  /** `classify`: how the owner of the client understands what it throws. */
  constructor(client: Client, bucket: string, classify: (error: unknown) => unknown) {
    this.#client = client;
    this.#bucket = bucket;
    this.#classify = classify;
  }

  async put(name: string, content: string): Promise<void> {
    const bytes = Buffer.from(content);
    await this.#client.putObject(this.#bucket, prefix + name, bytes, bytes.length).catch((error) => {
      throw this.#classify(error);
    });
  }

  putAll(records: readonly StoredRecord[]): Promise<(AppError | null)[]> {
    return Promise.all(records.map(({ name, text }) => this.put(name, text).then(() => null, toAppError)));
  }

  async remove(name: string): Promise<void> {
    await this.#client.removeObject(this.#bucket, prefix + name).catch((error) => {
      throw this.#classify(error);
    });
  }

  async *list(folder: string): AsyncGenerator<StoredRecord> {
    const listed = this.#client.listObjectsV2(this.#bucket, `${prefix}${folder}/`, true) as AsyncIterable<{
      name: string;
    }>;
    // Each is a request of its own: some are under way while the ones before are worked on.
    const ahead: Promise<StoredRecord | null>[] = [];
    try {
      for await (const { name } of listed) {
        const reading = this.#read(name);
        reading.catch(() => undefined);
        ahead.push(reading);
        if (ahead.length < readAhead) continue;
        const record = await ahead.shift();
        if (record) yield record;
      }
      for (const reading of ahead) {
        const record = await reading;
        if (record) yield record;
      }
    } catch (error) {
      throw this.#classify(error);
    }
  }

  /** Null where it was removed since it was listed. */
  async #read(name: string): Promise<StoredRecord | null> {
    try {
      return { name: name.slice(prefix.length), text: await text(await this.#client.getObject(this.#bucket, name)) };
    } catch (error) {
      if ((error as { code?: string }).code === "NoSuchKey") return null;
      throw error;
    }
  }
}
