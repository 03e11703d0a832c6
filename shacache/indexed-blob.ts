import type { ChunkDigests } from "./chunk-digests.js";

/** Where a blob's bytes are and how they are recognised. */
export interface IndexedBlob {
  location: string;
  sizeBytes: number;
  digests: ChunkDigests;
}

/** The bytes at rest are not those that were stored. What was yielded before is good. */
export class CorruptBlobError extends Error {
  override readonly name = "CorruptBlobError";
}
