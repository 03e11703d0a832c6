import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { say } from "../output.js";
import type { CacheClient } from "./cache-client.js";
import { CacheError, withRetries } from "./cache-error.js";
import { digestFile, digestFileIfAny } from "./local-file.js";
import type { Bar, Progress } from "./progress.js";
import { counting } from "./push.js";
import { type Sum, toSumLine } from "./sums.js";

/**
 * Brings a blob to a file. It grows in `<file>.part`, which a later pull goes on from, and takes its name only once all its
 * bytes are there, durable, and have the digest. A file that is there with other bytes is replaced only if that is wanted.
 */
export async function pull(
  client: CacheClient,
  sum: Sum,
  target: string,
  mayReplace: boolean,
  progress: Progress,
): Promise<void> {
  const present = await digestFileIfAny(target);
  if (present !== sum.sha512) {
    if (present !== null && !mayReplace)
      throw new CacheError("refused", `${target} has other bytes. --replace replaces it.`);
    await mkdir(path.dirname(target), { recursive: true });
    const bar = progress.open(sum.name);
    try {
      await fetchInto(client, sum.sha512, target, bar);
    } finally {
      bar.end();
    }
  }
  say(toSumLine(sum));
}

async function fetchInto(client: CacheClient, sha512: string, target: string, bar: Bar): Promise<void> {
  const part = `${target}.part`;
  const hadPart = (await sizeOf(part)) > 0;
  await withRetries(
    () => append(client, sha512, part, bar),
    () => bar.doneBytes,
  );
  if ((await digestFile(part)).sha512 !== sha512) {
    await rm(part, { force: true });
    // What an earlier pull left may have been of another blob; what came whole from the cache was not.
    if (hadPart) return fetchInto(client, sha512, target, bar);
    throw new CacheError("differs", "The bytes that came do not have the digest, and were not kept.");
  }
  const file = await open(part, "r+");
  await file.sync();
  await file.close();
  await rename(part, target);
}

/** Goes on where the part ends; all that the blob has is in it afterwards. */
async function append(client: CacheClient, sha512: string, part: string, bar: Bar): Promise<void> {
  const have = await sizeOf(part);
  const download = await client.download(sha512, have).catch((error: CacheError) => {
    // The part is as long as the blob, or longer: the digest will tell which.
    if (error.kind === "beyond") return "complete" as const;
    throw error;
  });
  if (download === "complete") return;
  if (download === null) throw new CacheError("absent", "The cache does not have it.");
  bar.start(download.from, download.sizeBytes ?? 0);
  const file = await open(part, download.from > 0 ? "a" : "w");
  try {
    await pipeline(download.stream, counting(bar), file.createWriteStream());
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const isOurs = ["ENOSPC", "EDQUOT", "EIO", "EFBIG"].includes(code ?? "");
    throw new CacheError(isOurs ? "refused" : "unreachable", `The transfer broke: ${message}`);
  }
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => null))?.size ?? 0;
}

/** A name from a list or an entry stays below the folder it is pulled to. */
export function targetIn(folder: string, name: string): string {
  const parts = name.split("/");
  if (path.isAbsolute(name) || name.includes("\0") || parts.includes("..") || parts.at(-1) === "")
    throw new CacheError("refused", `The name ${JSON.stringify(name)} leads out of the folder.`);
  return path.join(folder, name);
}
