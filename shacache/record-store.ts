import type { AppError } from "../common/errors.js";

export interface StoredRecord {
  name: string;
  text: string;
}

/**
 * Small texts beside the blobs, under names that their writers give: what the index knows and the blobs do not say, so that
 * the index can be made anew from the store. A record is there whole or not at all, and durable when `put` returns.
 */
export interface RecordStore {
  /** A name is of letters, digits, dots and slashes. Idempotent; another text under the same name replaces it. */
  put(name: string, text: string): Promise<void>;
  /** The same for several at once; says of each by its place what went wrong with it. */
  putAll(records: readonly StoredRecord[]): Promise<(AppError | null)[]>;
  /** Idempotent. */
  remove(name: string): Promise<void>;
  /** Those whose names begin with a folder, in no order. */
  list(folder: string): AsyncIterable<StoredRecord>;
}
