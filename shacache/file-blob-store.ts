import { randomUUID } from "node:crypto";
import { access, constants, mkdir, open, readdir, rename, stat, unlink } from "node:fs/promises";
import path from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { AppError } from "../common/errors.js";
import type { BlobStore, OpenBlob, ReceivedBlob, ReceiveOptions } from "./blob-store.js";
import { Digesting } from "./digesting.js";

/** Large reads are what makes Node fast at files: twice as fast as with its default of 64 KiB. */
const readChunkBytes = 1024 * 1024;

/** Blobs as files under `blobs/ab/<sha512>`. An upload is written to `incoming/`, made durable, and then renamed. */
export async function openFileBlobStore(folder: string): Promise<BlobStore> {
  const store = new FileBlobStore(folder);
  await store.prepare();
  return store;
}

class FileBlobStore implements BlobStore {
  readonly #incoming: string;
  readonly #blobs: string;

  constructor(folder: string) {
    this.#incoming = path.join(folder, "incoming");
    this.#blobs = path.join(folder, "blobs");
  }

  async prepare(): Promise<void> {
    await mkdir(this.#incoming, { recursive: true });
    await mkdir(this.#blobs, { recursive: true });
  }

  async receive(stream: Readable, options: ReceiveOptions): Promise<ReceivedBlob> {
    const temporary = path.join(this.#incoming, randomUUID());
    const digesting = new Digesting(options);
    try {
      const file = await open(temporary, "wx", 0o644);
      // The stream closes the file in any case, and makes its bytes durable before that when it ends well.
      await pipeline(digesting.through(stream), file.createWriteStream({ flush: true }));
      const { sha512 } = digesting.received;
      const place = this.#fileOf(sha512);
      await mkdir(path.dirname(place), { recursive: true });
      // A rename is atomic: an identical upload at the same time replaces the same bytes by the same bytes.
      await rename(temporary, place);
      await syncFolder(path.dirname(place));
      return digesting.received;
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw classify(error);
    }
  }

  async open(sha512: string, range?: { start: number; end: number }): Promise<OpenBlob | null> {
    try {
      const file = await open(this.#fileOf(sha512), "r");
      const { size } = await file.stat();
      return { stream: file.createReadStream({ ...range, highWaterMark: readChunkBytes }), sizeBytes: size };
    } catch (error) {
      if (isAbsent(error)) return null;
      throw classify(error);
    }
  }

  async stat(sha512: string): Promise<{ sizeBytes: number } | null> {
    try {
      return { sizeBytes: (await stat(this.#fileOf(sha512))).size };
    } catch (error) {
      if (isAbsent(error)) return null;
      throw classify(error);
    }
  }

  async remove(sha512: string): Promise<void> {
    await unlink(this.#fileOf(sha512)).catch((error) => {
      if (!isAbsent(error)) throw classify(error);
    });
  }

  async sweepOrphans(olderThanMs: number): Promise<number> {
    let count = 0;
    for (const name of await readdir(this.#incoming)) {
      const file = path.join(this.#incoming, name);
      const found = await stat(file).catch(() => null);
      if (!found || Date.now() - found.mtimeMs < olderThanMs) continue;
      await unlink(file).catch(() => undefined);
      count++;
    }
    return count;
  }

  async check(): Promise<void> {
    await access(this.#incoming, constants.W_OK).catch((error) => {
      throw classify(error);
    });
  }

  async close(): Promise<void> {
    // Files are closed by whoever opened them.
  }

  #fileOf(sha512: string): string {
    return path.join(this.#blobs, sha512.slice(0, 2), sha512);
  }
}

/** A new name is durable only once its folder is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}

const storageCodes = new Set(["EIO", "EACCES", "EPERM", "EROFS", "EMFILE", "ENFILE", "ENOENT", "ENOTDIR", "ESTALE"]);

function classify(error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (code === "ENOSPC" || code === "EDQUOT")
    return new AppError("STORAGE_FULL", "The blob store has no room left.", { cause: error });
  if (storageCodes.has(code))
    return new AppError("UNAVAILABLE", "The blob store cannot be used just now.", { cause: error });
  return error;
}
