import { createCipheriv, createSecretKey, type KeyObject, randomBytes } from "node:crypto";

/** Blobs are checked in chunks of this size on their way out: what a range costs at least, and what is held in memory at most. */
export const chunkBytes = 1024 * 1024;

const tagBytes = 16;

/**
 * How the chunks of one blob are recognised: a random key of the blob's own and a GMAC tag (NIST SP 800-38D) per chunk.
 * GMAC runs at many times the speed of a hash, so every byte can be checked each time it is read, in ranges too. The key is
 * kept in the index and never beside the bytes: whoever can write only to the store cannot make a chunk that passes.
 */
export interface ChunkDigests {
  /** A key object, because Node takes longer to look at bytes that are a key than to make a tag of a small blob. */
  key: KeyObject;
  /** Sixteen bytes per chunk, in order. */
  tags: Buffer;
}

export const newChunkKey = (): KeyObject => createSecretKey(randomBytes(32));

/** The chunk's number is the nonce: a key is of one blob, so no two different messages ever share one. */
export function tagOf(key: KeyObject, index: number, chunk: Uint8Array): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(index, 8);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(chunk);
  cipher.final();
  return cipher.getAuthTag();
}

export function isIntact({ key, tags }: ChunkDigests, index: number, chunk: Uint8Array): boolean {
  const kept = tags.subarray(index * tagBytes, (index + 1) * tagBytes);
  return kept.length === tagBytes && kept.equals(tagOf(key, index, chunk));
}
