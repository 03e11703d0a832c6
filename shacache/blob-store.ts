import type { Readable } from "node:stream";
import type { ChunkDigests } from "./chunk-digests.js";
import type { RecordStore } from "./record-store.js";

export interface ReceiveOptions {
  maxSizeBytes: number;
  /** What the client said it would send; fewer or more bytes are refused and leave nothing. */
  expectedSizeBytes?: number;
  /** Where the client named the digest before it sent: other bytes are DIGEST_MISMATCH and leave nothing. */
  expectedSha512?: string;
}

export interface ReceivedBytes {
  sha512: string;
  sizeBytes: number;
  digests: ChunkDigests;
}

export interface ReceivedBlob extends ReceivedBytes {
  /** The store's name for these bytes, of this upload alone. */
  location: string;
}

/** Both ends inclusive. */
export interface ByteRange {
  start: number;
  end: number;
}

export interface OpenBlob {
  /**
   * The bytes as they are stored, unchecked, in pieces that are read when they are asked for. Iterated once at most. A piece
   * is good until the next one is asked for: its memory is used again.
   */
  pieces: AsyncIterable<Buffer>;
  /** Ends the reading at once; to be called in any case. */
  close(): Promise<void>;
}

export interface StoredObject {
  location: string;
  sizeBytes: number;
  modifiedAt: Date;
}

/**
 * Bytes under names that the store gives. The index says which blob has which name, so a blob exists for readers only once
 * the index names it, and an upload of the same bytes never touches those that are being read or removed.
 *
 * `receive` returns once the bytes are durable; a stream that breaks, or a crash between any two steps, leaves at the worst
 * an object that no index names: `sweep` removes unfinished ones, the scrub judges finished ones.
 * Absent is null. A store that does not answer throws an AppError UNAVAILABLE, one without room STORAGE_FULL: neither is
 * ever taken for an absence.
 */
export interface BlobStore {
  readonly records: RecordStore;
  receive(stream: Readable, options: ReceiveOptions): Promise<ReceivedBlob>;
  /** The bytes of a range, fewer where the object ends before it. */
  open(location: string, range: ByteRange): Promise<OpenBlob | null>;
  /** All of a small object, in memory of its own: fewer bytes where it is shorter. */
  read(location: string, sizeBytes: number): Promise<Buffer | null>;
  stat(location: string): Promise<{ sizeBytes: number } | null>;
  /**
   * Told at once: what differs whenever the bytes at a location were written, moved or removed since. Null where there are
   * none; undefined where the store cannot tell.
   */
  stampOf(location: string): string | null | undefined;
  /** An address under which anybody reads the bytes from the store itself for so long; null where the store takes no clients. */
  directUrl(location: string, termSeconds: number): Promise<string | null>;
  /** Idempotent. */
  remove(location: string): Promise<void>;
  /** Moves bytes that are not what they should be to where no reader gets, for an operator to look at. Idempotent. */
  quarantine(location: string): Promise<void>;
  /** Every whole object, in no order, those that no index names included. */
  list(): AsyncIterable<StoredObject>;
  /** Removes uploads that never ended and nobody touched for so long, and what is in quarantine for longer than its term. */
  sweep(olderThanMs: number): Promise<number>;
  /** Throws while the store cannot be used. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/** How long quarantined bytes are kept. */
export const quarantineTermMs = 7 * 24 * 3600_000;
