import type http from "node:http";
import { AppError } from "./errors.js";

/** A body that comes more slowly than this is no client's that we know. */
const stallMs = 30_000;
const deadlineMs = 120_000;
/** What is too large is still read so far, so that the client sees the answer and not a broken pipe. */
const drainFactor = 4;

/** Reads a whole body that is not a blob. PAYLOAD_TOO_LARGE beyond the bound; UNSUPPORTED_ENCODING where it is compressed. */
export async function readBody(request: http.IncomingMessage, maxBytes: number): Promise<Buffer> {
  refuseCompressed(request);
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  const cut = () => request.destroy();
  const deadline = setTimeout(cut, deadlineMs);
  request.setTimeout(stallMs, cut);
  try {
    // Left early it stays open: the answer has yet to go out on it.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes <= maxBytes) chunks.push(chunk);
      else chunks.length = 0;
      if (sizeBytes > drainFactor * maxBytes) break;
    }
  } finally {
    clearTimeout(deadline);
    request.setTimeout(0);
  }
  if (sizeBytes > maxBytes) throw new AppError("PAYLOAD_TOO_LARGE", `A body has up to ${maxBytes} bytes.`);
  return Buffer.concat(chunks);
}

/** No door takes compressed bodies: a few kilobytes may be gigabytes. UNSUPPORTED_ENCODING where one comes. */
export function refuseCompressed(request: http.IncomingMessage): void {
  const encoding = request.headers["content-encoding"];
  if (encoding === undefined || encoding === "" || encoding.toLowerCase() === "identity") return;
  throw new AppError("UNSUPPORTED_ENCODING", "A body is sent as it is, without Content-Encoding.");
}
