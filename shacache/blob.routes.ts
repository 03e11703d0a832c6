import type { ServerResponse } from "node:http";
import { AppError } from "../common/errors.js";
import { sendText } from "../common/http-door.js";
import { sha512Pattern } from "./artifact/artifact.service.js";
import type { ByteRange } from "./blob-store.js";
import { parseRange } from "./byte-range.js";
import { digestIn, evaluate, isOnlyIfCached, rangeOf, representationOf, validatorsOf } from "./representation.js";
import { announcedBytes, watchBody } from "./request-body.js";
import type { Exchange, Routes } from "./routes.js";
import type { VerifiedBlob } from "./verified-read.js";

/** A reader that takes nothing for so long is gone. The real client gives up after a minute of silence itself. */
const readStallMs = 120_000;

/**
 * Blobs for `slapos.libnetworkcache`, which knows GET and POST only (shacache-protocol.md §1.2), and for clients of today,
 * which know HTTP: HEAD, preconditions, ranges, PUT under the digest, a redirect to the store.
 */
export const blobRoutes: Routes = {
  "GET /shacache/*": sendBlob,
  "HEAD /shacache/*": describeBlob,
  "POST /shacache": (exchange) => receiveBlob(exchange, digestIn(exchange.request.headers["repr-digest"])),
  "PUT /shacache/*": putBlob,
};

/** How long a client may take to begin with what it was sent to. */
const directTermSeconds = 900;

/** From our store, or from upstream while it is stored. */
async function sendBlob(exchange: Exchange): Promise<void> {
  const { artifacts } = exchange.services;
  const [sha512, query] = splitQuery(exchange.key);
  const found = await artifacts.stat(nameIn(sha512));
  if (found === null) return sendPulled(exchange, sha512);
  if (query === "direct" && (await sendElsewhere(exchange, sha512))) return;
  await send(exchange, sha512, found.sizeBytes, (range) => artifacts.open(sha512, range));
}

async function sendPulled(exchange: Exchange, sha512: string): Promise<void> {
  const { request, response, services } = exchange;
  if (isOnlyIfCached(request.headers)) throw absent();
  const reader = await services.blobPulls.open(sha512, request.headers.via);
  if (reader === null) throw absent();
  if (reader === "stored") return sendBlob(exchange);
  // A reader that waits for bytes from upstream does not notice by itself that nobody waits for it.
  response.once("close", () => void reader.leave());
  if (response.destroyed) return void reader.leave();
  try {
    await send(exchange, sha512, reader.sizeBytes, async (range) => ({
      chunks: afterHead(response, reader.read(range)),
      close: reader.leave,
    }));
  } finally {
    await reader.leave();
  }
}

/** The head does not wait for the first bytes, which have a way to go. */
async function* afterHead(response: ServerResponse, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  response.flushHeaders();
  yield* chunks;
}

type OpenRange = (range?: ByteRange) => Promise<VerifiedBlob | null>;

async function send(exchange: Exchange, sha512: string, sizeBytes: number | null, open: OpenRange): Promise<void> {
  const { request, response, services, caller, isPublic } = exchange;
  if (isNotModified(exchange, sha512)) return void response.end();
  const range = sizeBytes === null ? null : parseRange(rangeOf(request.headers, sha512), sizeBytes);
  if (range === "unsatisfiable") {
    response.writeHead(416, { "content-range": `bytes */${sizeBytes}`, "content-length": 0 });
    return void response.end();
  }
  const blob = await open(range ?? undefined);
  if (blob === null) throw absent();
  try {
    response.setTimeout(readStallMs, () => response.destroy());
    const length = range ? range.end - range.start + 1 : sizeBytes;
    const partial = range ? { "content-range": `bytes ${range.start}-${range.end}/${sizeBytes}` } : {};
    const headers = { ...representationOf(sha512, isPublic), ...partial, ...lengthHeader(length) };
    response.writeHead(range ? 206 : 200, headers);
    // A client that leaves after the headers only wanted to know whether the blob is there: no error, and reading has stopped.
    if (!(await sendChunks(response, blob.chunks, length))) return;
    // What is read in parts is taken with its end.
    if (range === null || range.end + 1 === sizeBytes) services.taken.note(caller, sha512, "downloads");
  } finally {
    await blob.close();
  }
}

/** True when the client has taken all. A chunk's memory is used again when the next one is asked for, so each is waited for. */
async function sendChunks(
  response: ServerResponse,
  chunks: VerifiedBlob["chunks"],
  sizeBytes: number | null,
): Promise<boolean> {
  let sentBytes = 0;
  for await (const chunk of chunks) {
    sentBytes += chunk.length;
    // The last bytes go with the end: one packet, and one turn, for what is small.
    if (sentBytes === sizeBytes) await untilTaken(response, (taken) => response.end(chunk, taken));
    else await untilTaken(response, (taken) => response.write(chunk, taken));
    if (sentBytes === sizeBytes || response.destroyed) break;
  }
  // What ends before its length is broken off, never ended as if it were whole.
  if (sizeBytes !== null && sentBytes < sizeBytes) response.destroy();
  else if (!response.writableEnded) response.end();
  return response.writableFinished;
}

/** Until the system has the bytes, or nobody wants them any more. */
function untilTaken(response: ServerResponse, send: (taken: () => void) => unknown): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      response.off("close", settle);
      resolve();
    };
    response.once("close", settle);
    send(settle);
  });
}

/** Asks the store too: a client that finds a blob does not send it, so one whose bytes are gone is not there. */
async function describeBlob(exchange: Exchange): Promise<void> {
  const { request, response, services, isPublic } = exchange;
  const [sha512] = splitQuery(exchange.key);
  const stored = await services.artifacts.statStored(nameIn(sha512));
  const isFar = stored === null && !isOnlyIfCached(request.headers);
  const found = isFar ? await services.blobPulls.stat(sha512, request.headers.via) : stored;
  if (found === null) throw absent();
  if (!isNotModified(exchange, sha512))
    response.writeHead(200, { ...representationOf(sha512, isPublic), ...lengthHeader(found.sizeBytes) });
  response.end();
}

/** Evaluates the preconditions of a read; true when the head of a 304 is written. */
function isNotModified({ request, response, isPublic }: Exchange, sha512: string): boolean {
  const verdict = evaluate(request.headers, sha512);
  if (verdict === "failed") throw new AppError("PRECONDITION_FAILED", "The blob is there, and If-Match names others.");
  if (verdict === "not modified") response.writeHead(304, validatorsOf(sha512, isPublic));
  return verdict === "not modified";
}

/**
 * Sends the client to the store itself, where the store takes clients: what comes from there nobody but the client checks.
 * Only on request, because the legacy client takes a redirect for an error (§1.2).
 */
async function sendElsewhere({ response, services }: Exchange, sha512: string): Promise<boolean> {
  const location = await services.artifacts.directUrl(sha512, directTermSeconds);
  if (location === null) return false;
  response.writeHead(307, { location, "cache-control": "no-store", "content-length": 0 });
  response.end();
  return true;
}

/** Compared while it streams. One that is here already is answered alike, unless only a new one was wanted. */
async function putBlob(exchange: Exchange): Promise<void> {
  const { request, services, key } = exchange;
  if (!sha512Pattern.test(key))
    throw new AppError("BAD_USER_INPUT", "A blob's name is 128 lower-case hexadecimal digits.");
  const announced = digestIn(request.headers["repr-digest"]);
  if (announced !== undefined && announced !== key)
    throw new AppError("DIGEST_MISMATCH", "Repr-Digest names another blob than the target.");
  const isNewWanted = request.headers["if-none-match"] === "*";
  if (isNewWanted && (await services.artifacts.statStored(key)) !== null)
    throw new AppError("PRECONDITION_FAILED", "The blob is there already.");
  await receiveBlob(exchange, key);
}

async function receiveBlob(exchange: Exchange, expectedSha512: string | undefined): Promise<void> {
  const { request, response, services, caller } = exchange;
  const expectedSizeBytes = announcedBytes(request);
  const endWatch = watchBody(exchange, expectedSizeBytes);
  try {
    const expected = { expectedSizeBytes, ...(expectedSha512 === undefined ? {} : { expectedSha512 }) };
    const sha512 = await services.artifacts.upload(caller, request, expected);
    services.taken.note(caller, sha512, "uploads");
    response.setHeader("etag", `"${sha512}"`);
    // The client takes success to be exactly 201 and exactly the digest (§1.2).
    sendText(response, 201, sha512);
  } finally {
    endWatch();
  }
}

const absent = () => new AppError("NOT_FOUND", "There is no such blob.");

/** An upstream may not say how long a blob is; it is then sent in pieces of their own length. */
const lengthHeader = (sizeBytes: number | null) => (sizeBytes === null ? {} : { "content-length": sizeBytes });

function nameIn(sha512: string): string {
  if (sha512Pattern.test(sha512)) return sha512;
  throw new AppError("NOT_FOUND", "A blob's name is 128 lower-case hexadecimal digits.");
}

function splitQuery(key: string): [name: string, query: string | null] {
  const mark = key.indexOf("?");
  return mark === -1 ? [key, null] : [key.slice(0, mark), key.slice(mark + 1)];
}
