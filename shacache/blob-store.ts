import type { Readable } from "node:stream";

export interface ReceiveOptions {
  maxSizeBytes: number;
  /** What the client said it would send; fewer or more bytes are refused and leave nothing. */
  expectedSizeBytes?: number;
}

export interface ReceivedBlob {
  sha512: string;
  sizeBytes: number;
}

export interface OpenBlob {
  stream: Readable;
  /** Of the whole blob, whatever range is read. */
  sizeBytes: number;
}

/**
 * Bytes under their SHA-512.
 *
 * `receive` is atomic: a blob can be read under its digest only once all its bytes are stored durably and the digest is
 * known from those bytes; a stream that breaks, or a crash between any two steps, leaves nothing readable, at the worst an
 * orphan that `sweepOrphans` removes. It is idempotent, also for identical uploads at once: one copy, and all succeed.
 * Absent is null. A store that does not answer throws an AppError UNAVAILABLE, one without room STORAGE_FULL: neither is
 * ever taken for an absence.
 */
export interface BlobStore {
  receive(stream: Readable, options: ReceiveOptions): Promise<ReceivedBlob>;
  /** Both ends of the range are inclusive and lie within the blob. A reader that leaves early stops the reading. */
  open(sha512: string, range?: { start: number; end: number }): Promise<OpenBlob | null>;
  stat(sha512: string): Promise<{ sizeBytes: number } | null>;
  /** Idempotent. */
  remove(sha512: string): Promise<void>;
  /** Removes what uploads that never ended left behind and nobody touched for so long; returns how many. */
  sweepOrphans(olderThanMs: number): Promise<number>;
  /** Throws while the store cannot be used. */
  check(): Promise<void>;
  close(): Promise<void>;
}
