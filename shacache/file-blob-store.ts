import { randomUUID } from "node:crypto";
import { closeSync, openSync, readSync, statSync } from "node:fs";
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
import { keepSlot, takeSlot } from "./chunk-slots.js";
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
      const slots = [takeSlot(), takeSlot()] as const;
      let isClosed = false;
      const close = async () => {
        if (isClosed) return;
        isClosed = true;
        // Waits for what is being read into a slot.
        await file.close();
        for (const slot of slots) keepSlot(slot);
      };
      return { pieces: readPieces(file, start, end, slots), close };
    } catch (error) {
      return this.#absentOrThrow(error);
    }
  }

  /** Three short calls, and not as many trips to another thread: for what is small and in memory that is most of the time. */
  async read(location: string, sizeBytes: number): Promise<Buffer | null> {
    let file: number | undefined;
    try {
      file = openSync(this.#fileOf(location), "r");
      const bytes = Buffer.allocUnsafeSlow(sizeBytes);
      return bytes.subarray(0, readSync(file, bytes, 0, sizeBytes, 0));
    } catch (error) {
      return this.#absentOrThrow(error);
    } finally {
      if (file !== undefined) closeSync(file);
    }
  }

  async stat(location: string): Promise<{ sizeBytes: number } | null> {
    try {
      return { sizeBytes: (await stat(this.#fileOf(location))).size };
    } catch (error) {
      return this.#absentOrThrow(error);
    }
  }

  /** The time of the last change is the system's: nobody who writes a file can set it. */
  stampOf(location: string): string | null {
    try {
      const found = statSync(this.#fileOf(location), { throwIfNoEntry: false });
      return found === undefined ? null : `${found.ino} ${found.size} ${found.mtimeMs} ${found.ctimeMs}`;
    } catch (error) {
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
    await Promise.all([this.#incoming, this.#blobs].map((folder) => access(folder, constants.W_OK))).catch((error) => {
      throw classify(error);
    });
  }

  async close(): Promise<void> {
    // Files are closed by whoever opened them.
  }

  /** A file is absent only where the store itself is there: of what is in a folder that is not mounted nothing is known. */
  async #absentOrThrow(error: unknown): Promise<null> {
    if (!isAbsent(error)) throw classify(error);
    await this.check();
    return null;
  }

  #fileOf(location: string): string {
    return `${this.#blobs}/${location.slice(0, 2)}/${location}`;
  }
}

/** The next chunk is being read into one slot while the one before it is on its way from the other. */
async function* readPieces(
  file: FileHandle,
  start: number,
  end: number,
  slots: readonly [Buffer, Buffer],
): AsyncGenerator<Buffer> {
  const readAt = async (position: number, slot: Buffer): Promise<Buffer> => {
    const wanted = Math.min(chunkBytes, end + 1 - position);
    let filled = 0;
    while (filled < wanted) {
      const { bytesRead } = await file.read(slot, filled, wanted - filled, position + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return slot.subarray(0, filled);
  };
  try {
    let next = readAt(start, slots[0]);
    for (let position = start, turn = 1; position <= end; turn ^= 1) {
      const bytes = await next;
      if (bytes.length === 0) return;
      position += bytes.length;
      if (position <= end) next = readAt(position, slots[turn] ?? slots[0]);
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
