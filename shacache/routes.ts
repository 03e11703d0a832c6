import type http from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { AppError } from "../common/errors.js";
import { sendText } from "../common/http-door.js";
import type { Caller, TokenAuthority } from "../common/identity.js";
import { sha512Pattern } from "./artifact/artifact.service.js";
import type { ShacacheServices } from "./context.js";

export interface ShacacheAccess {
  tokens: TokenAuthority;
  /** Anonymous reads, as production caches have them; by default where the door listens on loopback. */
  openReads: boolean;
  openWrites: boolean;
}

/** The raw request target split by hand: a URL parser would change keys (shacache-protocol.md §1.1). */
export interface Target {
  token: string | null;
  store: "shacache" | "shadir" | null;
  key: string | null;
}

/** A write waits this long for its next byte. */
const uploadStallMs = 60_000;
const maxEntryBytes = 1024 * 1024;
/** A refused upload is read up to here, so that the client sees the status and not a broken pipe. */
const maxDrainBytes = 256 * 1024 * 1024;

export function parseTarget(target: string): Target {
  const prefixed = /^\/k\/([^/]+)(\/.*)$/.exec(target);
  const rest = prefixed?.[2] ?? target;
  const match = /^\/(shacache|shadir)(?:\/(.*))?$/s.exec(rest);
  return {
    token: prefixed?.[1] ?? null,
    store: (match?.[1] as Target["store"]) ?? null,
    key: match?.[2] === undefined || match[2] === "" ? null : match[2],
  };
}

/** Writes an answer, or throws the AppError that the door answers with. */
export async function route(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  services: ShacacheServices,
  access: ShacacheAccess,
): Promise<void> {
  const { token, store, key } = parseTarget(request.url ?? "/");
  const isRead = request.method === "GET" || request.method === "HEAD";
  const caller = await authorise(request, token, isRead, access);
  if (store === "shacache" && isRead && key !== null) return sendBlob(request, response, services, key);
  if (store === "shacache" && request.method === "POST" && key === null)
    return receiveBlob(request, response, services, caller);
  if (store === "shadir" && isRead && key !== null) return sendEntries(response, services, key);
  if (store === "shadir" && request.method === "PUT" && key !== null)
    return receiveEntry(request, response, services, caller, key);
  throw new AppError("NOT_FOUND", "Blobs are at /shacache/<sha512>, the directory at /shadir/<key>.");
}

async function authorise(
  request: http.IncomingMessage,
  token: string | null,
  isRead: boolean,
  { tokens, openReads, openWrites }: ShacacheAccess,
): Promise<Caller | null> {
  const given = token !== null || request.headers.authorization !== undefined;
  if (!given && (isRead ? openReads : openWrites)) return null;
  const caller =
    token === null ? await tokens.verifyAuthorization(request.headers.authorization) : await tokens.verify(token);
  const mayWrite =
    caller.kind === "administrator" || caller.kind === "node" || (caller.kind === "person" && caller.role !== "VIEWER");
  if (!isRead && !mayWrite)
    throw new AppError("FORBIDDEN", "Uploading takes a node's token, or the role USER or OWNER.");
  return caller;
}

async function sendBlob(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  { artifacts }: ShacacheServices,
  key: string,
): Promise<void> {
  if (!sha512Pattern.test(key)) throw new AppError("NOT_FOUND", "A blob's name is 128 lower-case hexadecimal digits.");
  const whole = await artifacts.stat(key);
  if (whole === null) throw new AppError("NOT_FOUND", "There is no such blob.");
  const headers = {
    "content-type": "application/octet-stream",
    etag: `"${key}"`,
    "accept-ranges": "bytes",
    "cache-control": "public, max-age=31556926, immutable",
  };
  const range = parseRange(request.headers.range, whole.sizeBytes);
  if (range === "unsatisfiable") {
    response.writeHead(416, { "content-range": `bytes */${whole.sizeBytes}`, "content-length": 0 });
    return void response.end();
  }
  const length = range ? range.end - range.start + 1 : whole.sizeBytes;
  const partial = range ? { "content-range": `bytes ${range.start}-${range.end}/${whole.sizeBytes}` } : {};
  if (request.method === "HEAD") {
    response.writeHead(200, { ...headers, "content-length": whole.sizeBytes });
    return void response.end();
  }
  const blob = await artifacts.open(key, range ?? undefined);
  if (blob === null) throw new AppError("NOT_FOUND", "There is no such blob.");
  response.writeHead(range ? 206 : 200, { ...headers, ...partial, "content-length": length });
  try {
    await pipeline(blob.stream, response);
  } catch (error) {
    // A client that leaves after the headers only wanted to know whether the blob is there: no error, and reading has stopped.
    if ((error as NodeJS.ErrnoException).code !== "ERR_STREAM_PREMATURE_CLOSE") throw error;
  }
}

/** One range of bytes, both ends inclusive; null for none or for a form that is better ignored than refused (RFC 9110 §14.2). */
export function parseRange(
  header: string | undefined,
  sizeBytes: number,
): { start: number; end: number } | "unsatisfiable" | null {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (!match || (match[1] === "" && match[2] === "")) return null;
  const last = sizeBytes - 1;
  if (match[1] === "") {
    const length = Math.min(Number(match[2]), sizeBytes);
    return length === 0 ? "unsatisfiable" : { start: sizeBytes - length, end: last };
  }
  const start = Number(match[1]);
  const end = match[2] === "" ? last : Math.min(Number(match[2]), last);
  if (start > last) return "unsatisfiable";
  return end < start ? null : { start, end };
}

async function receiveBlob(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  { artifacts }: ShacacheServices,
  caller: Caller | null,
): Promise<void> {
  const expectedSizeBytes = contentLength(request);
  request.setTimeout(uploadStallMs, () => request.destroy());
  // The client takes success to be exactly 201 and exactly the digest (§1.2).
  sendText(response, 201, await artifacts.upload(caller, request, expectedSizeBytes));
}

async function sendEntries(response: http.ServerResponse, { entries }: ShacacheServices, key: string): Promise<void> {
  const body = await entries.read(key);
  if (body === null) throw new AppError("NOT_FOUND", "There is no entry under this key.");
  response.writeHead(200, {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
  });
  response.end(body);
}

async function receiveEntry(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  { entries }: ShacacheServices,
  caller: Caller | null,
  key: string,
): Promise<void> {
  if (contentLength(request) > maxEntryBytes)
    throw new AppError("PAYLOAD_TOO_LARGE", `An entry has up to ${maxEntryBytes} bytes.`);
  request.setTimeout(uploadStallMs, () => request.destroy());
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  await entries.put(caller, key, Buffer.concat(chunks).toString("utf8"));
  sendText(response, 201, "stored\n");
}

function contentLength(request: http.IncomingMessage): number {
  const header = request.headers["content-length"];
  if (header === undefined) throw new AppError("LENGTH_REQUIRED", "An upload says its length by Content-Length.");
  return Number(header);
}

/** Reads what is left of a refused upload, up to a bound and while bytes keep coming. */
export async function drain(stream: Readable): Promise<void> {
  let sizeBytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxDrainBytes) return;
    }
  } catch {
    // The client left: nobody waits for the answer.
  }
}
