import { randomUUID } from "node:crypto";
import {
  access,
  constants,
  type FileHandle,
  mkdir,
  open,
  opendir,
  readdir,
  rename,
  stat,
  unlink,
} from "node:fs/promises";
import path from "node:path";
import type { Readable } from "node:stream";
import {
  type BlobStore,
  type ByteRange,
  type OpenBlob,
  quarantineTermMs,
  type ReceivedBlob,
  type ReceiveOptions,
  type StoredObject,
} from "./blob-store.js";
import { chunkBytes } from "./chunk-digests.js";
import { digestInto } from "./digest-into.js";
import { classify, isAbsent, syncFolder, writeAll } from "./file-errors.js";
import { FileRecordStore } from "./file-record-store.js";

const syncEveryBytes = 32 * 1024 * 1024;

/** Blobs as files under `blobs/ab/<sha512>.<id>`. An upload is written to `incoming/`, made durable, and then renamed. */
export async function openFileBlobStore(folder: string): Promise<BlobStore> {
  const store = new FileBlobStore(folder);
  await store.prepare();
  return store;
}

class FileBlobStore implements BlobStore {
  readonly records: FileRecordStore;
  readonly #incoming: string;
  readonly #blobs: string;
  readonly #quarantine: string;

  constructor(folder: string) {
    this.#incoming = path.join(folder, "incoming");
    this.#blobs = path.join(folder, "blobs");
    this.#quarantine = path.join(folder, "quarantine");
    this.records = new FileRecordStore(path.join(folder, "records"), this.#incoming);
  }

  async prepare(): Promise<void> {
    for (const folder of [this.#incoming, this.#blobs, this.#quarantine]) await mkdir(folder, { recursive: true });
  }

  async receive(stream: Readable, options: ReceiveOptions): Promise<ReceivedBlob> {
    const id = randomUUID();
    const temporary = path.join(this.#incoming, id);
    try {
      const received = await this.#write(temporary, stream, options);
      const location = `${received.sha512}.${id}`;
      const place = this.#fileOf(location);
      if (await mkdir(path.dirname(place), { recursive: true })) await syncFolder(this.#blobs);
      await rename(temporary, place);
      await syncFolder(path.dirname(place));
      return { ...received, location };
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw classify(error);
    }
  }

  async #write(name: string, stream: Readable, options: ReceiveOptions) {
    const file = await open(name, "wx", 0o644);
    try {
      let unsyncedBytes = 0;
      let syncing: Promise<void> = Promise.resolve();
      const received = await digestInto(stream, options, async (chunk, index) => {
        await writeAll(file, chunk, index * chunkBytes);
        unsyncedBytes += chunk.length;
        if (unsyncedBytes < syncEveryBytes) return;
        unsyncedBytes = 0;
        // The disk writes while more comes, so that little is left to wait for at the end.
        syncing = syncing.then(() => file.datasync());
        syncing.catch(() => undefined);
      });
      await syncing;
      await file.datasync();
      return received;
    } finally {
      await file.close();
    }
  }

  async open(location: string, { start, end }: ByteRange): Promise<OpenBlob | null> {
    try {
      const file = await open(this.#fileOf(location), "r");
      return { pieces: readPieces(file, start, end), close: () => file.close() };
    } catch (error) {
      if (isAbsent(error)) return null;
      throw classify(error);
    }
  }

  async stat(location: string): Promise<{ sizeBytes: number } | null> {
    try {
      return { sizeBytes: (await stat(this.#fileOf(location))).size };
    } catch (error) {
      if (isAbsent(error)) return null;
      throw classify(error);
    }
  }

  async directUrl(): Promise<null> {
    return null;
  }

  async remove(location: string): Promise<void> {
    await unlink(this.#fileOf(location)).catch((error) => {
      if (!isAbsent(error)) throw classify(error);
    });
  }

  async quarantine(location: string): Promise<void> {
    await rename(this.#fileOf(location), path.join(this.#quarantine, location)).catch((error) => {
      if (!isAbsent(error)) throw classify(error);
    });
  }

  async *list(): AsyncGenerator<StoredObject> {
    for (const folder of await readdir(this.#blobs)) {
      for await (const { name } of await opendir(path.join(this.#blobs, folder))) {
        const found = await stat(path.join(this.#blobs, folder, name)).catch(() => null);
        if (found?.isFile()) yield { location: name, sizeBytes: found.size, modifiedAt: found.mtime };
      }
    }
  }

  async sweep(olderThanMs: number): Promise<number> {
    const abandoned = await removeOlder(this.#incoming, olderThanMs, (found) => found.mtimeMs);
    // A rename keeps the time of the bytes and sets that of the entry.
    return abandoned + (await removeOlder(this.#quarantine, quarantineTermMs, (found) => found.ctimeMs));
  }

  async check(): Promise<void> {
    await access(this.#incoming, constants.W_OK).catch((error) => {
      throw classify(error);
    });
  }

  async close(): Promise<void> {
    // Files are closed by whoever opened them.
  }

  #fileOf(location: string): string {
    return path.join(this.#blobs, location.slice(0, 2), location);
  }
}

/** The next chunk is being read while the one before it is on its way. Large reads are what makes Node fast at files. */
async function* readPieces(file: FileHandle, start: number, end: number): AsyncGenerator<Buffer> {
  const readAt = async (position: number): Promise<Buffer> => {
    const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(chunkBytes, end + 1 - position)));
    let filled = 0;
    while (filled < bytes.length) {
      const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, position + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes.subarray(0, filled);
  };
  try {
    let next = readAt(start);
    for (let position = start; position <= end; ) {
      const bytes = await next;
      if (bytes.length === 0) return;
      position += bytes.length;
      next = position <= end ? readAt(position) : next;
      next.catch(() => undefined);
      yield bytes;
    }
  } catch (error) {
    throw classify(error);
  }
}

async function removeOlder(
  folder: string,
  olderThanMs: number,
  timeOf: (found: { mtimeMs: number; ctimeMs: number }) => number,
): Promise<number> {
  let count = 0;
  for (const name of await readdir(folder)) {
    const file = path.join(folder, name);
    const found = await stat(file).catch(() => null);
    if (!found || Date.now() - timeOf(found) < olderThanMs) continue;
    await unlink(file).catch(() => undefined);
    count++;
  }
  return count;
}
