import { randomUUID } from "node:crypto";
import { opendir, readFile, unlink } from "node:fs/promises";
import path from "node:path";
import { type AppError, toAppError } from "../common/errors.js";
import { classify, isAbsent } from "./file-errors.js";
import type { FilePut, FilePutAnswer } from "./file-record.worker.js";
import type { RecordStore, StoredRecord } from "./record-store.js";
import { Thread } from "./thread.js";

/** Records as files `records/<folder>/ab/<name>`; one is written beside and renamed. */
export class FileRecordStore implements RecordStore {
  readonly #folder: string;
  readonly #incoming: string;
  #thread: Thread<FilePut[], FilePutAnswer> | undefined;

  /** `incoming`: where what is unfinished lies, and is swept. */
  constructor(folder: string, incoming: string) {
    this.#folder = folder;
    this.#incoming = incoming;
  }

  async put(name: string, text: string): Promise<void> {
    const [failure] = await this.putAll([{ name, text }]);
    if (failure) throw failure;
  }

  /** In a thread of its own, because one record takes nine calls of the system: handed over one by one they cost more than the disk. */
  async putAll(records: readonly StoredRecord[]): Promise<(AppError | null)[]> {
    const puts = records.map(({ name, text }) => ({
      text,
      temporary: path.join(this.#incoming, randomUUID()),
      place: this.#fileOf(name),
    }));
    this.#thread ??= new Thread("file-record.worker", () => {
      this.#thread = undefined;
    });
    const answer = await this.#thread.ask(puts);
    return answer.map((failure) => failure && toAppError(classify(Object.assign(new Error(failure.message), failure))));
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
