import { once } from "node:events";
import type http from "node:http";
import { AppError } from "../common/errors.js";
import { farewellMs, stallMs, tooSlow } from "./reader-watch.js";

/** Between node:http and the WHATWG Request and Response that the runtime speaks. */

/** The runtime takes JSON in a target for granted, and fails where it is none. */
export function checkTarget(target: string): void {
  const { searchParams } = new URL(target, "http://gateway");
  for (const name of ["variables", "extensions"]) {
    const text = searchParams.get(name);
    if (text && !isJson(text)) throw new AppError("BAD_USER_INPUT", `\`${name}\` in the target is not JSON.`);
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
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

/** Streams the answer at the client's pace: a stream that is not read is not pulled, and ends with a reason after a while. */
export async function sendWebResponse(answer: Response, response: http.ServerResponse): Promise<void> {
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  if (answer.body) {
    const reader = answer.body.getReader();
    response.once("close", () => void reader.cancel().catch(() => undefined));
    response.flushHeaders();
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      if (response.destroyed || response.writableEnded) return;
      if (response.write(chunk.value) || (await readsOn(response))) continue;
      void reader.cancel().catch(() => undefined);
      return sendAway(response, answer);
    }
  }
  response.end();
}

export function isEventStream(answer: Response): boolean {
  return answer.headers.get("content-type")?.startsWith("text/event-stream") ?? false;
}

/** False when the client has taken nothing for so long that it is not waited for any more. */
async function readsOn(response: http.ServerResponse): Promise<boolean> {
  const stalled = new AbortController();
  const timer = setTimeout(() => stalled.abort(), stallMs);
  try {
    const { signal } = stalled;
    await Promise.race([once(response, "drain", { signal }), once(response, "close", { signal })]);
    return true;
  } catch {
    return !stalled.signal.aborted;
  } finally {
    clearTimeout(timer);
    stalled.abort();
  }
}

/** Lies behind what was not read yet, so that a client that goes on soon learns why its stream ended. */
function sendAway(response: http.ServerResponse, answer: Response): void {
  if (isEventStream(answer)) {
    const { code, message } = tooSlow();
    const result = JSON.stringify({ errors: [{ message, extensions: { code, retryable: true } }] });
    response.end(`event: next\ndata: ${result}\n\nevent: complete\ndata:\n\n`);
  } else response.end();
  setTimeout(() => response.destroy(), farewellMs).unref();
}
