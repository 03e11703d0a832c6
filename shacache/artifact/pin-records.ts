import type { RecordStore } from "../record-store.js";

const folder = "pins";

/** Which blobs are pinned, kept in the store too, so that an index that is made anew does not let them go. */
export class PinRecords {
  readonly #records: RecordStore;

  constructor(records: RecordStore) {
    this.#records = records;
  }

  put(sha512: string): Promise<void> {
    return this.#records.put(`${folder}/${sha512}`, "");
  }

  remove(sha512: string): Promise<void> {
    return this.#records.remove(`${folder}/${sha512}`);
  }

  async *read(): AsyncGenerator<string> {
    for await (const { name } of this.#records.list(folder)) yield name.slice(folder.length + 1);
  }
}
