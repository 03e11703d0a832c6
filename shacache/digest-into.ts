import { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { AppError } from "../common/errors.js";
import type { ReceivedBytes, ReceiveOptions } from "./blob-store.js";
import { chunkBytes, newChunkKey, tagOf } from "./chunk-digests.js";
import { Gate } from "./gate.js";
import { beginHashing } from "./hashing.js";
import { release } from "./release.js";

/**
 * Takes a chunk to the store. Begun in the order of the chunks, a few of them at once. The buffer is its own until the
 * promise resolves, and somebody else's after that.
 */
export type ChunkSink = (chunk: Buffer, index: number) => Promise<unknown>;

/** How many chunks of one upload are being hashed and stored while the next one fills. */
const maxUnderWay = 3;
/** Each upload has some chunks in memory, so there is a limit to how many are read at once; the others wait their turn. */
const uploads = new Gate(64, 60_000);
const maxKeptChunks = 32;
const keptChunks: Buffer[] = [];

/**
 * Reads a body to its end in whole chunks, hands each to the sink and hashes it meanwhile. It fails at the first byte too
 * many, and at the end if some are missing or the digest is not the named one; the source then stays open, because whoever
 * answers the client drains it first.
 */
export function digestInto(stream: Readable, options: ReceiveOptions, sink: ChunkSink): Promise<ReceivedBytes> {
  const pieces = stream.iterator({ destroyOnReturn: false });
  return uploads.pass(() => digest(stream instanceof IncomingMessage ? releasing(pieces) : pieces, options, sink));
}

async function* releasing(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const piece of pieces) {
    yield piece;
    release(piece);
  }
}

/** The same for pieces that are good until the next one is asked for. */
export async function digest(
  pieces: AsyncIterable<Buffer>,
  options: ReceiveOptions,
  sink: ChunkSink,
): Promise<ReceivedBytes> {
  const { maxSizeBytes, expectedSizeBytes, expectedSha512 } = options;
  const hashing = beginHashing(expectedSizeBytes);
  const key = newChunkKey();
  const tags: Buffer[] = [];
  const underWay: Promise<unknown>[] = [];
  const capacity = Math.min(chunkBytes, expectedSizeBytes ?? chunkBytes);
  let chunk = takeChunk(capacity);
  let sizeBytes = 0;
  let filled = 0;

  const flush = async () => {
    const full = chunk;
    const bytes = full.subarray(0, filled);
    const index = tags.push(tagOf(key, tags.length, bytes)) - 1;
    const work = Promise.all([hashing.update(bytes), sink(bytes, index)]).then(() => keepChunk(full));
    // Whoever waits for it hears of its failure.
    work.catch(() => undefined);
    underWay.push(work);
    filled = 0;
    if (underWay.length >= maxUnderWay) await underWay.shift();
    chunk = takeChunk(capacity);
  };
  try {
    for await (const piece of pieces) {
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
    await Promise.all(underWay);
    const sha512 = await hashing.end();
    if (expectedSha512 !== undefined && sha512 !== expectedSha512)
      throw new AppError("DIGEST_MISMATCH", `The bytes have the digest ${sha512}.`);
    return { sha512, sizeBytes, digests: { key, tags: Buffer.concat(tags) } };
  } catch (error) {
    // Nothing is still being written when the store removes what there is.
    await Promise.allSettled(underWay);
    void hashing.end().catch(() => undefined);
    throw error;
  }
}

/** In memory that the threads share, so that nothing is copied on its way to one. */
function takeChunk(capacity: number): Buffer {
  if (capacity < chunkBytes) return Buffer.from(new SharedArrayBuffer(Math.max(1, capacity)));
  return keptChunks.pop() ?? Buffer.from(new SharedArrayBuffer(chunkBytes));
}

function keepChunk(chunk: Buffer): void {
  if (chunk.length === chunkBytes && keptChunks.length < maxKeptChunks) keptChunks.push(chunk);
}

function wrongLength(): AppError {
  return new AppError("BAD_USER_INPUT", "The body does not have the length that was announced.");
}
