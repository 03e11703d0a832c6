import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import { say } from "../output.js";
import type { CacheClient } from "./cache-client.js";
import { CacheError, withRetries } from "./cache-error.js";
import { toEntry } from "./entry.js";
import { digestFile, type LocalFile, readChunkBytes } from "./local-file.js";
import type { Bar, Progress } from "./progress.js";
import { toSumLine } from "./sums.js";

export interface EntryToWrite {
  key: string;
  metadata: Record<string, string>;
  signingKey: string | null;
}

/** Uploads a file unless the cache has it, writes its entry if one is wanted, and says its sum. */
export async function push(
  client: CacheClient,
  file: LocalFile,
  entry: EntryToWrite | null,
  progress: Progress,
): Promise<void> {
  const { sha512, sizeBytes } = await digestFile(file.path);
  const present = await withRetries(() => client.stat(sha512));
  if (present === null) {
    const bar = progress.open(file.name);
    try {
      await withRetries(() => {
        bar.start(0, sizeBytes);
        return client.upload(sha512, Readable.from(counting(bar)(bytesOf(file.path, sizeBytes))), sizeBytes);
      });
    } finally {
      bar.end();
    }
  }
  if (entry !== null) {
    const metadata = { file: file.name, ...entry.metadata, sha512 };
    await withRetries(() => client.putEntry(entry.key, toEntry(metadata, entry.signingKey)));
  }
  say(toSumLine({ sha512, name: file.name }));
}

/** Exactly the announced bytes: a file that grows or shrinks meanwhile must not tear the request that follows. */
async function* bytesOf(file: string, sizeBytes: number): AsyncGenerator<Buffer> {
  let leftBytes = sizeBytes;
  for await (const chunk of createReadStream(file, { highWaterMark: readChunkBytes }) as AsyncIterable<Buffer>) {
    yield chunk.subarray(0, leftBytes);
    leftBytes -= chunk.length;
    if (leftBytes <= 0) return;
  }
  if (leftBytes > 0) throw new CacheError("refused", "The file became shorter while it was sent.");
}

/** Passes bytes on and shows how many. */
export function counting(bar: Bar) {
  return async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of source) {
      bar.add(chunk.length);
      yield chunk;
    }
  };
}
