import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { AppError } from "../common/errors.js";
import type { ReceivedBytes, ReceiveOptions } from "./blob-store.js";
import { chunkBytes, newChunkKey, tagOf } from "./chunk-digests.js";

/** Takes a chunk to the store. The buffer is its own until the promise resolves, and somebody else's after that. */
export type ChunkSink = (chunk: Buffer, index: number) => Promise<void>;

/**
 * Reads a body to its end in whole chunks, hands each to the sink and hashes it meanwhile. It fails at the first byte too
 * many, and at the end if some are missing or the digest is not the named one; the source then stays open, because whoever
 * answers the client drains it first.
 */
export async function digestInto(stream: Readable, options: ReceiveOptions, sink: ChunkSink): Promise<ReceivedBytes> {
  const { maxSizeBytes, expectedSizeBytes, expectedSha512 } = options;
  const hash = createHash("sha512");
  const key = newChunkKey();
  const tags: Buffer[] = [];
  const chunk = Buffer.allocUnsafe(Math.max(1, Math.min(chunkBytes, expectedSizeBytes ?? chunkBytes)));
  let sizeBytes = 0;
  let filled = 0;

  const flush = async () => {
    const bytes = chunk.subarray(0, filled);
    hash.update(bytes);
    tags.push(tagOf(key, tags.length, bytes));
    await sink(bytes, tags.length - 1);
    filled = 0;
  };
  for await (const piece of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    sizeBytes += piece.length;
    if (sizeBytes > maxSizeBytes) throw new AppError("PAYLOAD_TOO_LARGE", `A blob has up to ${maxSizeBytes} bytes.`);
    if (expectedSizeBytes !== undefined && sizeBytes > expectedSizeBytes) throw wrongLength();
    for (let offset = 0; offset < piece.length; ) {
      const taken = piece.copy(chunk, filled, offset);
      filled += taken;
      offset += taken;
      if (filled === chunkBytes) await flush();
    }
  }
  if (expectedSizeBytes !== undefined && sizeBytes !== expectedSizeBytes) throw wrongLength();
  if (filled > 0) await flush();
  const sha512 = hash.digest("hex");
  if (expectedSha512 !== undefined && sha512 !== expectedSha512)
    throw new AppError("DIGEST_MISMATCH", `The bytes have the digest ${sha512}.`);
  return { sha512, sizeBytes, digests: { key, tags: Buffer.concat(tags) } };
}

function wrongLength(): AppError {
  return new AppError("BAD_USER_INPUT", "The body does not have the length that was announced.");
}
