import { randomUUID } from "node:crypto";
import { mkdir, open, opendir, readFile, rename, unlink } from "node:fs/promises";
import path from "node:path";
import { classify, isAbsent, syncFolder } from "./file-errors.js";
import type { RecordStore, StoredRecord } from "./record-store.js";

/** Records as files `records/<folder>/ab/<name>`; one is written beside and renamed. */
export class FileRecordStore implements RecordStore {
  readonly #folder: string;
  readonly #incoming: string;

  /** `incoming`: where what is unfinished lies, and is swept. */
  constructor(folder: string, incoming: string) {
    this.#folder = folder;
    this.#incoming = incoming;
  }

  async put(name: string, text: string): Promise<void> {
    const temporary = path.join(this.#incoming, randomUUID());
    const place = this.#fileOf(name);
    try {
      const file = await open(temporary, "wx", 0o644);
      try {
        await file.writeFile(text);
        await file.datasync();
      } finally {
        await file.close();
      }
      const made = await mkdir(path.dirname(place), { recursive: true });
      if (made) await syncFolder(path.dirname(made));
      await rename(temporary, place);
      await syncFolder(path.dirname(place));
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      throw classify(error);
    }
  }

  async remove(name: string): Promise<void> {
    await unlink(this.#fileOf(name)).catch((error) => {
      if (!isAbsent(error)) throw classify(error);
    });
  }

  async *list(folder: string): AsyncGenerator<StoredRecord> {
    try {
      for await (const entry of await opendir(path.join(this.#folder, folder), { recursive: true })) {
        if (!entry.isFile()) continue;
        const text = await readFile(path.join(entry.parentPath, entry.name), "utf8").catch((error) => {
          if (isAbsent(error)) return null;
          throw error;
        });
        if (text !== null) yield { name: `${folder}/${entry.name}`, text };
      }
    } catch (error) {
      if (!isAbsent(error)) throw classify(error);
    }
  }

  /** Some hundred folders, so that none has a million files. */
  #fileOf(name: string): string {
    const base = path.basename(name);
    return path.join(this.#folder, path.dirname(name), base.slice(0, 2), base);
  }
}
