import { randomUUID } from "node:crypto";
import { type FileHandle, mkdir, open, unlink } from "node:fs/promises";
import path from "node:path";
import { classify, writeAll } from "../file-errors.js";

const readBytes = 1024 * 1024;

/**
 * Bytes on their way in, which any number of readers follow from the start. The file has no name any more once it is open,
 * so that nothing is left of it when the process dies.
 */
export class Spool {
  readonly #file: FileHandle;
  #sizeBytes = 0;
  #users = 1;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  static async open(folder: string): Promise<Spool> {
    try {
      await mkdir(folder, { recursive: true });
      const name = path.join(folder, randomUUID());
      const file = await open(name, "wx+", 0o600);
      await unlink(name);
      return new Spool(file);
    } catch (error) {
      throw classify(error);
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async append(chunk: Buffer): Promise<void> {
    await writeAll(this.#file, chunk, this.#sizeBytes).catch((error) => {
      throw classify(error);
    });
    this.#sizeBytes += chunk.length;
  }

  /** Some of the bytes from a position on, which have to be there; none beyond `end`, exclusive. */
  async read(position: number, end: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(Math.min(readBytes, end - position));
    const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, position);
    return buffer.subarray(0, bytesRead);
  }

  hold(): void {
    this.#users++;
  }

  /** The last one to let go closes it. */
  async release(): Promise<void> {
    if (--this.#users === 0) await this.#file.close();
  }
}
