import { closeSync, fdatasyncSync, fsyncSync, mkdirSync, openSync, renameSync, unlinkSync, writeSync } from "node:fs";
import path from "node:path";
import { parentPort } from "node:worker_threads";

export interface FilePut {
  text: string;
  /** Where it is written and made durable, before it is renamed to its place. */
  temporary: string;
  place: string;
}

/** What went wrong with each, null where nothing did. */
export type FilePutAnswer = ({ message: string; code: string | undefined } | null)[];

/** Step by step for all of them: what the disk has to do for the first, the others have for nothing. */
parentPort?.on("message", (puts: FilePut[]) => {
  const failures = new Map<FilePut, Error>();
  const each = (step: (put: FilePut) => void) => {
    for (const put of puts) {
      if (failures.has(put)) continue;
      try {
        step(put);
      } catch (error) {
        failures.set(put, error as Error);
      }
    }
  };
  const files = new Map<FilePut, number>();
  each((put) => {
    const file = openSync(put.temporary, "wx", 0o644);
    files.set(put, file);
    const bytes = Buffer.from(put.text);
    for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
  });
  each((put) => fdatasyncSync(files.get(put) ?? -1));
  for (const file of files.values()) closeSync(file);
  each(({ temporary, place }) => {
    const folder = path.dirname(place);
    const made = mkdirSync(folder, { recursive: true });
    if (made) syncFolder(path.dirname(made));
    renameSync(temporary, place);
  });
  const synced = new Set<string>();
  each(({ place }) => {
    const folder = path.dirname(place);
    if (!synced.has(folder)) syncFolder(folder);
    synced.add(folder);
  });
  for (const { temporary } of failures.keys()) {
    try {
      unlinkSync(temporary);
    } catch {
      // Not made, or renamed already.
    }
  }
  const answer: FilePutAnswer = puts.map((put) => {
    const error = failures.get(put) as NodeJS.ErrnoException | undefined;
    return error === undefined ? null : { message: error.message, code: error.code };
  });
  parentPort?.postMessage(answer);
});

/** A new name is durable only once its folder is. */
function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
