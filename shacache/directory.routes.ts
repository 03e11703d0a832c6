import type { Readable } from "node:stream";
import { AppError } from "../common/errors.js";
import { sendText } from "../common/http-door.js";
import { announcedBytes, watchBody } from "./request-body.js";
import type { Exchange, Routes } from "./routes.js";

const maxEntryBytes = 1024 * 1024;

/** What `slapos.libnetworkcache` says to SHADIR (shacache-protocol.md §1.3). */
export const directoryRoutes: Routes = {
  "GET /shadir/*": sendEntries,
  "HEAD /shadir/*": sendEntries,
  "PUT /shadir/*": receiveEntry,
};

async function sendEntries({ request, response, services, key }: Exchange): Promise<void> {
  await services.directoryPulls.refresh(key, request.headers.via);
  const body = await services.entries.read(key);
  if (body === null) throw new AppError("NOT_FOUND", "There is no entry under this key.");
  response.writeHead(200, {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
  });
  response.end(body);
}

async function receiveEntry(exchange: Exchange): Promise<void> {
  const { request, response, services, caller, key } = exchange;
  const sizeBytes = announcedBytes(request);
  if (sizeBytes > maxEntryBytes) throw new AppError("PAYLOAD_TOO_LARGE", `An entry has up to ${maxEntryBytes} bytes.`);
  const endWatch = watchBody(exchange, sizeBytes);
  try {
    const sha512 = await services.entries.put(caller, key, decode(await bytesOf(request)));
    // A node whose blob is here already sends the entry only.
    if (sha512 !== null) services.taken.note(caller, sha512, "uploads");
    sendText(response, 201, "stored\n");
  } finally {
    endWatch();
  }
}

/** All of a body, whose announced length is bounded. */
async function bytesOf(request: Readable): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request.iterator({ destroyOnReturn: false })) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** An entry goes out again as it came, so it has to be what JSON is made of. */
function decode(body: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    throw new AppError("BAD_USER_INPUT", "The body is not UTF-8.");
  }
}
