import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { AppError } from "../common/errors.js";
import type { ReceivedBlob, ReceiveOptions } from "./blob-store.js";

/** Passes bytes on while it hashes and counts them; it fails at the first byte too many, and at the end if some are missing. */
export class Digesting {
  readonly #hash = createHash("sha512");
  readonly #options: ReceiveOptions;
  #sizeBytes = 0;
  #received: ReceivedBlob | undefined;

  constructor(options: ReceiveOptions) {
    this.#options = options;
  }

  /** Known once the stream has ended well. */
  get received(): ReceivedBlob {
    if (!this.#received) throw new AppError("INTERNAL", "The upload has not ended.");
    return this.#received;
  }

  /** The source stays open when this fails: whoever answers the client drains it first. */
  async *through(stream: Readable): AsyncGenerator<Buffer> {
    const { maxSizeBytes, expectedSizeBytes } = this.#options;
    for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      this.#sizeBytes += chunk.length;
      if (this.#sizeBytes > maxSizeBytes)
        throw new AppError("PAYLOAD_TOO_LARGE", `A blob has up to ${maxSizeBytes} bytes.`);
      if (expectedSizeBytes !== undefined && this.#sizeBytes > expectedSizeBytes) throw wrongLength();
      this.#hash.update(chunk);
      yield chunk;
    }
    if (expectedSizeBytes !== undefined && this.#sizeBytes !== expectedSizeBytes) throw wrongLength();
    this.#received = { sha512: this.#hash.digest("hex"), sizeBytes: this.#sizeBytes };
  }
}

function wrongLength(): AppError {
  return new AppError("BAD_USER_INPUT", "The body does not have the length that was announced.");
}
