import type { AppError } from "../../common/errors.js";
import type { RecordStore, StoredRecord } from "../record-store.js";
import type { DirectoryEntryRow } from "./directory-entry.service.js";
import { idOf, parsePair, readMetadata } from "./entry-body.js";

const folder = "entries";
const atOnce = 16;

/** What of an entry cannot be made from the rest. */
type Kept = Pick<DirectoryEntryRow, "key" | "body" | "createdBy" | "project" | "sequence" | "isPinned"> & {
  createdAt: string;
};

type Recorded = Omit<Kept, "createdAt"> & { id: string; createdAt: Date };

/** Directory entries in the store, one record each: they are what the index is made from when it is lost. */
export class EntryRecords {
  readonly #records: RecordStore;

  constructor(records: RecordStore) {
    this.#records = records;
  }

  async put(row: Recorded): Promise<void> {
    const { name, text } = toRecord(row);
    await this.#records.put(name, text);
  }

  /** Says of each by its place what went wrong with it. */
  putAll(rows: readonly Recorded[]): Promise<(AppError | null)[]> {
    return this.#records.putAll(rows.map(toRecord));
  }

  /** After the index has dropped them. */
  async remove(ids: readonly string[]): Promise<void> {
    for (let from = 0; from < ids.length; from += atOnce)
      await Promise.all(ids.slice(from, from + atOnce).map((id) => this.#records.remove(nameOf(id))));
  }

  /** All that there are, as rows of the index. One that is not what its name says is told, and left out. */
  async *read(onDamaged: (name: string) => void): AsyncGenerator<DirectoryEntryRow> {
    for await (const { name, text } of this.#records.list(folder)) {
      const row = toRow(name.slice(folder.length + 1).replace(".", " "), text);
      if (row) yield row;
      else onDamaged(name);
    }
  }
}

function toRecord(row: Recorded): StoredRecord {
  const { key, body, createdAt, createdBy, project, sequence, isPinned } = row;
  const kept: Kept = { key, body, createdAt: createdAt.toISOString(), createdBy, project, sequence, isPinned };
  return { name: nameOf(row.id), text: JSON.stringify(kept) };
}

function toRow(id: string, text: string): DirectoryEntryRow | null {
  try {
    const kept = JSON.parse(text) as Kept;
    if (idOf(kept.key, kept.body) !== id) return null;
    const [metadata, signature] = parsePair(kept.body);
    const { sha512, releaseUrl } = readMetadata(metadata);
    const isSigned = signature.trim() !== "";
    const createdAt = new Date(kept.createdAt);
    return { ...kept, id, sha512, releaseUrl, isSigned, createdAt, isRecorded: true } as DirectoryEntryRow;
  } catch {
    return null;
  }
}

/** The id is of two digests and a space. */
const nameOf = (id: string) => `${folder}/${id.replace(" ", ".")}`;
