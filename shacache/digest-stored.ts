import type { BlobStore, ReceivedBytes } from "./blob-store.js";
import { digest } from "./digest-into.js";

/** Reads a stored object from end to end, as fast as `pace` lets it, for its digests. Null when it is not there. */
export async function digestStored(
  store: BlobStore,
  { location, sizeBytes }: { location: string; sizeBytes: number },
  pace: (sizeBytes: number) => Promise<void> = async () => undefined,
): Promise<ReceivedBytes | null> {
  const opened = await store.open(location, { start: 0, end: Math.max(0, sizeBytes - 1) });
  if (opened === null) return null;
  try {
    const options = { maxSizeBytes: Number.MAX_SAFE_INTEGER };
    return await digest(opened.pieces, options, (chunk) => pace(chunk.length));
  } finally {
    await opened.close();
  }
}
