import { constants } from "node:fs";
import { chmod, chown, copyFile, lstat, mkdir, open, readdir } from "node:fs/promises";
import path from "node:path";

export interface CopyOptions {
  /** Whether a path, relative to the top, is left out, with all that is in it. */
  skip?: (relative: string) => boolean;
  /** Whose the copies are; by default whose the originals are, where we are root. */
  owner?: { uid: number; gid: number } | undefined;
}

const isRoot = process.getuid?.() === 0;

/**
 * Copies a folder with modes and owners, each file durable. A file that goes while it is copied is left out: a database
 * that runs drops some, and says in its log how to do without them.
 */
export async function copyTree(from: string, to: string, options: CopyOptions = {}, relative = ""): Promise<number> {
  const source = path.join(from, relative);
  const target = path.join(to, relative);
  const found = await lstat(source).catch(nullIfAbsent);
  if (found === null || options.skip?.(relative)) return 0;
  let sizeBytes = 0;
  if (found.isDirectory()) {
    await mkdir(target, { recursive: true, mode: 0o700 });
    for (const name of await readdir(source)) sizeBytes += await copyTree(from, to, options, path.join(relative, name));
  } else if (found.isFile()) {
    const copied = await copyFile(source, target, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE).then(
      () => true,
      nullIfAbsent,
    );
    if (copied === null) return 0;
    sizeBytes = found.size;
  } else return 0;
  const owner = options.owner ?? found;
  if (isRoot) await chown(target, owner.uid, owner.gid);
  await chmod(target, found.mode & 0o7777);
  await sync(target);
  return sizeBytes;
}

export async function sync(target: string): Promise<void> {
  const handle = await open(target, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function nullIfAbsent(error: NodeJS.ErrnoException): null {
  if (error.code === "ENOENT") return null;
  throw error;
}
