import { createHash } from "node:crypto";
import { say } from "../output.js";
import type { CacheClient } from "./cache-client.js";
import { CacheError, withRetries } from "./cache-error.js";
import type { Bar, Progress } from "./progress.js";

/** Reads a blob from the cache as any client would, and compares what came with its name. */
export async function verify(client: CacheClient, sha512: string, name: string, progress: Progress): Promise<void> {
  const bar = progress.open(name);
  try {
    const found = await withRetries(() => digestOf(client, sha512, bar));
    if (found !== sha512) throw new CacheError("differs", "DIFFERS: the cache sent other bytes.");
    say(`${name}: OK`);
  } finally {
    bar.end();
  }
}

async function digestOf(client: CacheClient, sha512: string, bar: Bar): Promise<string> {
  const download = await client.download(sha512);
  if (download === null) throw new CacheError("absent", "ABSENT: the cache does not have it.");
  bar.start(0, download.sizeBytes ?? 0);
  const hash = createHash("sha512");
  try {
    for await (const chunk of download.stream as AsyncIterable<Buffer>) {
      hash.update(chunk);
      bar.add(chunk.length);
    }
  } catch (error) {
    throw new CacheError("unreachable", `BROKEN: the transfer broke: ${(error as Error).message}`);
  }
  return hash.digest("hex");
}
