import type { BlobStore } from "./blob-store.js";
import { isIntact } from "./chunk-digests.js";
import { CorruptBlobError, type IndexedBlob } from "./indexed-blob.js";

const maxKeptBytes = 32 * 1024 * 1024;
/** What one takes beside its bytes. */
const overheadBytes = 512;

/**
 * Small blobs that were read and checked, the last used ones. The store is asked each time whether its bytes are still those,
 * so that what it lost, moved or has other bytes of is never answered from here.
 */
const kept = new Map<string, { stamp: string; bytes: Buffer }>();
let keptBytes = 0;

/** All of a small blob, checked; null where the store does not have it. Nobody writes into what this returns. */
export async function readSmall(store: BlobStore, blob: IndexedBlob): Promise<Buffer | null> {
  const { location, sizeBytes } = blob;
  // Taken before the bytes are read: what changes meanwhile has another one at the next look.
  const stamp = store.stampOf(location);
  const known = kept.get(location);
  if (known !== undefined && known.stamp === stamp) {
    // The order of the map is that of the last use.
    kept.delete(location);
    kept.set(location, known);
    return known.bytes;
  }
  forget(location);
  const bytes = await store.read(location, sizeBytes);
  if (bytes === null) return null;
  if (bytes.length !== sizeBytes || (sizeBytes > 0 && !isIntact(blob.digests, 0, bytes)))
    throw new CorruptBlobError("The blob is not intact.");
  if (stamp) keep(location, stamp, bytes);
  return bytes;
}

function keep(location: string, stamp: string, bytes: Buffer): void {
  // Another reader may have read it at the same time.
  forget(location);
  kept.set(location, { stamp, bytes });
  keptBytes += bytes.length + overheadBytes;
  for (const oldest of kept.keys()) {
    if (keptBytes <= maxKeptBytes) return;
    forget(oldest);
  }
}

function forget(location: string): void {
  const known = kept.get(location);
  if (known === undefined) return;
  kept.delete(location);
  keptBytes -= known.bytes.length + overheadBytes;
}
