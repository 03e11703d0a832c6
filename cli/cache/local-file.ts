import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { opendir, stat } from "node:fs/promises";
import path from "node:path";
import { tell } from "../output.js";
import { CacheError } from "./cache-error.js";

export interface LocalFile {
  path: string;
  /** Below the argument that it was found by, that argument's last part included: as `cp -r` would name it. */
  name: string;
}

export interface NamedBlob {
  name: string;
  sha512: () => Promise<string>;
}

/** Large reads halve the time that a file takes. */
export const readChunkBytes = 1024 * 1024;

export const sha512Pattern = /^[0-9a-f]{128}$/;

/** The regular files of the arguments, folders walked. What is neither is said and left out; links are not followed. */
export async function* walk(places: readonly string[]): AsyncGenerator<LocalFile> {
  for (const place of places) {
    const found = await stat(place).catch((error: Error) => {
      throw new CacheError("refused", error.message);
    });
    const name = path.basename(path.resolve(place));
    if (found.isFile()) yield { path: place, name };
    else if (found.isDirectory()) yield* walkFolder(place, name);
    else tell(`${place} is no regular file, left out`);
  }
}

async function* walkFolder(folder: string, name: string): AsyncGenerator<LocalFile> {
  for await (const entry of await opendir(folder)) {
    const inside = { path: path.join(folder, entry.name), name: `${name}/${entry.name}` };
    if (entry.isDirectory()) yield* walkFolder(inside.path, inside.name);
    else if (entry.isFile()) yield inside;
    else tell(`${inside.path} is no regular file, left out`);
  }
}

/** The SHA-512 of a file's bytes and how many they are. */
export async function digestFile(file: string): Promise<{ sha512: string; sizeBytes: number }> {
  const hash = createHash("sha512");
  let sizeBytes = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: readChunkBytes }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    sizeBytes += chunk.length;
  }
  return { sha512: hash.digest("hex"), sizeBytes };
}

/** Null when there is no such file. */
export async function digestFileIfAny(file: string): Promise<string | null> {
  try {
    return (await digestFile(file)).sha512;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
