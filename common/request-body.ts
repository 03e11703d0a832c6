import type http from "node:http";
import { AppError } from "./errors.js";

/** A body that comes more slowly than this is no client's that we know. */
const stallMs = 30_000;
const deadlineMs = 120_000;
/** What is too large is still read so far, so that the client sees the answer and not a broken pipe. */
const drainFactor = 4;

/** Reads a whole body that is not a blob. PAYLOAD_TOO_LARGE beyond the bound; UNSUPPORTED_ENCODING where it is compressed. */
export async function readBody(request: http.IncomingMessage, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const sizeBytes = await eachChunk(request, drainFactor * maxBytes, (chunk, soFar) => {
    if (soFar <= maxBytes) chunks.push(chunk);
    else chunks.length = 0;
  });
  if (sizeBytes > maxBytes) throw tooLarge(maxBytes);
  return Buffer.concat(chunks);
}

/** A body that may be larger than what is kept of it: its beginning and its end, each up to half of the bound. */
export async function readEnds(request: http.IncomingMessage, maxBytes: number, keptBytes: number): Promise<Buffer> {
  const beginning: Buffer[] = [];
  const end: Buffer[] = [];
  let endBytes = 0;
  const sizeBytes = await eachChunk(request, maxBytes, (chunk, soFar) => {
    if (soFar <= keptBytes / 2) return void beginning.push(chunk);
    end.push(chunk);
    endBytes += chunk.length;
    while (endBytes - (end[0]?.length ?? 0) > keptBytes / 2) endBytes -= end.shift()?.length ?? 0;
  });
  if (sizeBytes > maxBytes) throw tooLarge(maxBytes);
  return Buffer.concat([...beginning, ...end]);
}

const tooLarge = (maxBytes: number) => new AppError("PAYLOAD_TOO_LARGE", `A body has up to ${maxBytes} bytes.`);

/** Hands on each chunk with the number of bytes up to its end, and returns how many there were. Past the limit it stops. */
async function eachChunk(
  request: http.IncomingMessage,
  limitBytes: number,
  take: (chunk: Buffer, soFar: number) => void,
): Promise<number> {
  refuseCompressed(request);
  let sizeBytes = 0;
  const cut = () => request.destroy();
  const deadline = setTimeout(cut, deadlineMs);
  request.setTimeout(stallMs, cut);
  try {
    // Left early it stays open: the answer has yet to go out on it.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      take(chunk, sizeBytes);
      if (sizeBytes > limitBytes) break;
    }
  } finally {
    clearTimeout(deadline);
    request.setTimeout(0);
  }
  return sizeBytes;
}

/** No door takes compressed bodies: a few kilobytes may be gigabytes. UNSUPPORTED_ENCODING where one comes. */
export function refuseCompressed(request: http.IncomingMessage): void {
  const encoding = request.headers["content-encoding"];
  if (encoding === undefined || encoding === "" || encoding.toLowerCase() === "identity") return;
  throw new AppError("UNSUPPORTED_ENCODING", "A body is sent as it is, without Content-Encoding.");
}
