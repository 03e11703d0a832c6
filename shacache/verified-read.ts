import type { BlobStore, ByteRange, OpenBlob } from "./blob-store.js";
import { chunkBytes, isIntact } from "./chunk-digests.js";
import { keepSlot, takeSlot } from "./chunk-slots.js";
import { CorruptBlobError, type IndexedBlob } from "./indexed-blob.js";
import { readSmall } from "./small-blobs.js";

const smallBytes = 64 * 1024;

export interface VerifiedBlob {
  /**
   * The bytes of the range, each checked before it is yielded. Throws CorruptBlobError at the first chunk that is not intact.
   * A chunk is good until the next one is asked for, unless it is the only one. A list where all is here.
   */
  chunks: AsyncIterable<Buffer> | readonly Buffer[];
  /** Ends the reading at once; to be called in any case. */
  close(): Promise<void>;
}

/**
 * Opens a range of a blob on any store. Its first chunk is read and checked at once, so that most corruption is known
 * before an answer has begun. Null when the store does not have it.
 */
export async function openVerified(
  store: BlobStore,
  blob: IndexedBlob,
  range?: ByteRange,
): Promise<VerifiedBlob | null> {
  const { start, end } = range ?? { start: 0, end: blob.sizeBytes - 1 };
  if (blob.sizeBytes <= smallBytes) return openSmall(store, blob, { start, end });
  const firstChunk = Math.floor(start / chunkBytes);
  const lastChunk = Math.floor(end / chunkBytes);
  const aligned = { start: firstChunk * chunkBytes, end: Math.min((lastChunk + 1) * chunkBytes, blob.sizeBytes) - 1 };
  const opened = await store.open(blob.location, aligned);
  if (opened === null) return null;
  try {
    const checked = check(opened, blob, aligned, { start, end });
    const first = await checked.next();
    return {
      chunks: (async function* () {
        if (first.done) return;
        yield first.value;
        yield* checked;
      })(),
      close: () => opened.close(),
    };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** In one go, which is what most of the cost of a small blob depends on. */
async function openSmall(store: BlobStore, blob: IndexedBlob, { start, end }: ByteRange): Promise<VerifiedBlob | null> {
  const bytes = await readSmall(store, blob);
  if (bytes === null) return null;
  const part = bytes.length === end - start + 1 ? bytes : bytes.subarray(start, end + 1);
  return { chunks: part.length === 0 ? [] : [part], close: async () => undefined };
}

async function* check(
  opened: OpenBlob,
  blob: IndexedBlob,
  aligned: ByteRange,
  range: ByteRange,
): AsyncGenerator<Buffer> {
  let position = aligned.start;
  for await (const chunk of inChunks(opened.pieces)) {
    if (!isIntact(blob.digests, position / chunkBytes, chunk))
      throw new CorruptBlobError(`The blob is not intact from byte ${position} on.`);
    const from = Math.max(range.start - position, 0);
    const to = Math.min(range.end + 1 - position, chunk.length);
    position += chunk.length;
    yield from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to);
  }
  if (position !== aligned.end + 1) throw new CorruptBlobError("The blob ends before its size.");
}

/** Pieces of any length put together to whole chunks in one slot; one that is a whole chunk is passed on as it is. */
async function* inChunks(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const slot = takeSlot();
  let filled = 0;
  try {
    for await (const piece of pieces) {
      if (filled === 0 && piece.length === chunkBytes) yield piece;
      else {
        for (let offset = 0; offset < piece.length; ) {
          const taken = piece.copy(slot, filled, offset);
          filled += taken;
          offset += taken;
          if (filled < chunkBytes) continue;
          yield slot;
          filled = 0;
        }
      }
    }
    if (filled > 0) yield slot.subarray(0, filled);
  } finally {
    keepSlot(slot);
  }
}
