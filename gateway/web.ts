import { once } from "node:events";
import type http from "node:http";
import { AppError } from "../common/errors.js";

/** Between node:http and the WHATWG Request and Response that the runtime speaks. */

const maxBodyBytes = 1024 * 1024;
const bodyStallMs = 30_000;

/** Reads a bounded body. PAYLOAD_TOO_LARGE beyond it; what is left is not read, and the connection is closed after the answer. */
export async function readBody(request: http.IncomingMessage): Promise<Buffer> {
  if (Number(request.headers["content-length"] ?? 0) > maxBodyBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  request.setTimeout(bodyStallMs, () => request.destroy());
  for await (const chunk of request as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxBodyBytes) throw tooLarge();
    chunks.push(chunk);
  }
  request.setTimeout(0);
  return Buffer.concat(chunks);
}

function tooLarge(): AppError {
  return new AppError("PAYLOAD_TOO_LARGE", `A request has up to ${maxBodyBytes} bytes.`);
}

export function toWebRequest(request: http.IncomingMessage, body: Buffer | null, signal: AbortSignal): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value === undefined || name === "connection" || name === "transfer-encoding" || name === "content-length")
      continue;
    headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  const url = new URL(request.url ?? "/", "http://gateway");
  const method = request.method ?? "GET";
  return new Request(url, {
    method,
    headers,
    signal,
    ...(body && method !== "GET" ? { body: new Uint8Array(body) } : {}),
  });
}

/** Streams the answer at the client's pace: a stream that is not read is not pulled. */
export async function sendWebResponse(answer: Response, response: http.ServerResponse): Promise<void> {
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  if (answer.body) {
    const reader = answer.body.getReader();
    response.once("close", () => void reader.cancel().catch(() => undefined));
    response.flushHeaders();
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      if (response.destroyed || response.writableEnded) return;
      if (!response.write(chunk.value)) await Promise.race([once(response, "drain"), once(response, "close")]);
    }
  }
  response.end();
}
