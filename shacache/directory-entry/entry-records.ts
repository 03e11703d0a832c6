import type { RecordStore } from "../record-store.js";
import type { DirectoryEntryRow } from "./directory-entry.service.js";
import { parsePair, readMetadata } from "./entry-body.js";

const folder = "entries";
const atOnce = 16;

/** What of an entry cannot be made from the rest. */
type Kept = Pick<DirectoryEntryRow, "key" | "body" | "createdBy" | "project" | "sequence" | "isPinned"> & {
  createdAt: string;
};

/** Directory entries in the store, one record each: they are what the index is made from when it is lost. */
export class EntryRecords {
  readonly #records: RecordStore;

  constructor(records: RecordStore) {
    this.#records = records;
  }

  async put(row: Omit<Kept, "createdAt"> & { id: string; createdAt: Date }): Promise<void> {
    const { key, body, createdAt, createdBy, project, sequence, isPinned } = row;
    const kept: Kept = { key, body, createdAt: createdAt.toISOString(), createdBy, project, sequence, isPinned };
    await this.#records.put(nameOf(row.id), JSON.stringify(kept));
  }

  /** After the index has dropped them. */
  async remove(ids: readonly string[]): Promise<void> {
    for (let from = 0; from < ids.length; from += atOnce)
      await Promise.all(ids.slice(from, from + atOnce).map((id) => this.#records.remove(nameOf(id))));
  }

  /** All that there are, as rows of the index. */
  async *read(): AsyncGenerator<DirectoryEntryRow> {
    for await (const { name, text } of this.#records.list(folder)) {
      const kept = JSON.parse(text) as Kept;
      const [metadata, signature] = parsePair(kept.body);
      const { sha512, releaseUrl } = readMetadata(metadata);
      yield {
        ...kept,
        id: name.slice(folder.length + 1).replace(".", " "),
        sha512,
        releaseUrl,
        isSigned: signature.trim() !== "",
        createdAt: new Date(kept.createdAt),
        isRecorded: true,
      } as DirectoryEntryRow;
    }
  }
}

/** The id is of two digests and a space. */
const nameOf = (id: string) => `${folder}/${id.replace(" ", ".")}`;
