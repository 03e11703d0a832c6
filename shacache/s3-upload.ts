import { webcrypto } from "node:crypto";
import type { Client } from "minio";

const partBytes = 8 * 1024 * 1024;
/** Memory of a part each, used again by the next uploads: what is made anew for each makes the collector go through the heap. */
const keptParts: Buffer[] = [];
const maxKeptParts = 4;

/** One object on its way into a bucket: what fits into a part waits in memory, what is larger goes as a multipart upload. */
export class S3Upload {
  readonly #client: Client;
  readonly #target: { bucketName: string; objectName: string };
  readonly #partBytes: number;
  #held: Buffer;
  #spare: Buffer | undefined;
  #filled = 0;
  #uploadId: string | undefined;
  #parts: { part: number; etag: string }[] = [];
  /** The part that is being sent while the next one fills: two parts are in memory at most. */
  #sending: Promise<void> = Promise.resolve();

  constructor(client: Client, bucketName: string, objectName: string, expectedSizeBytes: number | undefined) {
    this.#client = client;
    this.#target = { bucketName, objectName };
    this.#partBytes = Math.min(partBytes, Math.max(1, expectedSizeBytes ?? partBytes));
    this.#held = this.#takePart();
  }

  get isMultipart(): boolean {
    return this.#uploadId !== undefined;
  }

  /** What waits in memory: all of it while the upload is not multipart. */
  get held(): Buffer {
    return this.#held.subarray(0, this.#filled);
  }

  /** Takes a copy of a chunk, of which a whole number makes a part. */
  async add(chunk: Buffer): Promise<void> {
    if (this.#filled + chunk.length > this.#partBytes) await this.#send();
    this.#filled += chunk.copy(this.#held, this.#filled);
  }

  /** The object is there, whole, when this returns. */
  async complete(): Promise<void> {
    if (this.#filled > 0) await this.#send();
    await this.#sending;
    const { bucketName, objectName } = this.#target;
    await this.#client.completeMultipartUpload(bucketName, objectName, this.#uploadId ?? "", this.#parts);
    for (const part of [this.#held, this.#spare])
      if (part?.length === partBytes && keptParts.length < maxKeptParts) keptParts.push(part);
  }

  #takePart(): Buffer {
    return (this.#partBytes === partBytes && keptParts.pop()) || Buffer.allocUnsafe(this.#partBytes);
  }

  /** Leaves nothing in the bucket; what it could not remove is swept later. */
  async abort(): Promise<void> {
    await this.#sending.catch(() => undefined);
    if (this.#uploadId === undefined) return;
    const { bucketName, objectName } = this.#target;
    await this.#client.abortMultipartUpload(bucketName, objectName, this.#uploadId).catch(() => undefined);
  }

  async #send(): Promise<void> {
    await this.#sending;
    const { bucketName, objectName } = this.#target;
    this.#uploadId ??= await this.#client.initiateNewMultipartUpload(bucketName, objectName, {});
    this.#sending = this.#sendPart(this.held, this.#parts.length + 1, this.#uploadId);
    // Whoever sends next, completes or aborts hears of a failure.
    this.#sending.catch(() => undefined);
    // What was sent before this is free by now: the two take turns, because making memory anew costs more than filling it.
    const free = this.#spare ?? this.#takePart();
    this.#spare = this.#held;
    this.#held = free;
    this.#filled = 0;
  }

  /** The library would hash the part on this thread and hold up everybody else; this way it is done beside it. */
  async #sendPart(bytes: Buffer, part: number, uploadId: string): Promise<void> {
    // Over TLS the signature leaves the payload out.
    const isPlain = this.#client.enableSHA256;
    const sha256 = isPlain ? Buffer.from(await webcrypto.subtle.digest("SHA-256", bytes as never)).toString("hex") : "";
    const response = await this.#client.makeRequestStreamAsync(
      {
        ...this.#target,
        method: "PUT",
        query: `uploadId=${uploadId}&partNumber=${part}`,
        headers: { "content-length": String(bytes.length) },
      },
      bytes,
      sha256,
      [200],
      "",
    );
    response.resume();
    this.#parts.push({ part, etag: String(response.headers.etag).replaceAll('"', "") });
  }
}
