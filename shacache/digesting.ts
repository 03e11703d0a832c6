import { createHash } from "node:crypto";
import { Transform } from "node:stream";
import { AppError } from "../common/errors.js";
import type { ReceivedBlob, ReceiveOptions } from "./blob-store.js";

/** Passes bytes on while it hashes and counts them; it fails at the first byte too many, and at the end if some are missing. */
export class Digesting extends Transform {
  readonly #hash = createHash("sha512");
  readonly #options: ReceiveOptions;
  #sizeBytes = 0;
  #received: ReceivedBlob | undefined;

  constructor(options: ReceiveOptions) {
    super();
    this.#options = options;
  }

  /** Known once the stream has ended well. */
  get received(): ReceivedBlob {
    if (!this.#received) throw new AppError("INTERNAL", "The upload has not ended.");
    return this.#received;
  }

  override _transform(
    chunk: Buffer,
    _encoding: BufferEncoding,
    done: (error?: Error | null, data?: Buffer) => void,
  ): void {
    this.#sizeBytes += chunk.length;
    const { maxSizeBytes, expectedSizeBytes } = this.#options;
    if (this.#sizeBytes > maxSizeBytes) {
      done(new AppError("PAYLOAD_TOO_LARGE", `A blob has up to ${maxSizeBytes} bytes.`));
    } else if (expectedSizeBytes !== undefined && this.#sizeBytes > expectedSizeBytes) {
      done(wrongLength());
    } else {
      this.#hash.update(chunk);
      done(null, chunk);
    }
  }

  override _flush(done: (error?: Error | null) => void): void {
    const { expectedSizeBytes } = this.#options;
    this.#received = { sha512: this.#hash.digest("hex"), sizeBytes: this.#sizeBytes };
    done(expectedSizeBytes !== undefined && this.#sizeBytes !== expectedSizeBytes ? wrongLength() : null);
  }
}

function wrongLength(): AppError {
  return new AppError("BAD_USER_INPUT", "The body does not have the length that was announced.");
}
