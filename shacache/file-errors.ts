import { type FileHandle, open } from "node:fs/promises";
import { AppError } from "../common/errors.js";

/** A new name is durable only once its folder is. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === "ENOENT";
}

const storageCodes = new Set(["EIO", "EACCES", "EPERM", "EROFS", "EMFILE", "ENFILE", "ENOENT", "ENOTDIR", "ESTALE"]);

export function classify(error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code ?? "";
  if (code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG")
    return new AppError("STORAGE_FULL", "The blob store has no room left.", { cause: error });
  if (storageCodes.has(code))
    return new AppError("UNAVAILABLE", "The blob store cannot be used just now.", { cause: error });
  return error;
}

export async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written);
    written += bytesWritten;
  }
}
