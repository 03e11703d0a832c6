import { pipeline } from "node:stream/promises";
import { AppError } from "../common/errors.js";
import { sendText } from "../common/http-door.js";
import { sha512Pattern } from "./artifact/artifact.service.js";
import { parseRange } from "./byte-range.js";
import { announcedBytes, watchBody } from "./request-body.js";
import type { Exchange, Routes } from "./routes.js";

/** A reader that takes nothing for so long is gone. The real client gives up after a minute of silence itself. */
const readStallMs = 120_000;

/** What `slapos.libnetworkcache` says to SHACACHE (shacache-protocol.md §1.2). */
export const blobRoutes: Routes = {
  "GET /shacache/*": sendBlob,
  "POST /shacache": receiveBlob,
};

async function sendBlob({ request, response, services, key }: Exchange): Promise<void> {
  if (!sha512Pattern.test(key)) throw new AppError("NOT_FOUND", "A blob's name is 128 lower-case hexadecimal digits.");
  const found = await services.artifacts.stat(key);
  if (found === null) throw new AppError("NOT_FOUND", "There is no such blob.");
  const { sizeBytes } = found;
  const headers = {
    "content-type": "application/octet-stream",
    etag: `"${key}"`,
    "accept-ranges": "bytes",
    "cache-control": "public, max-age=31556926, immutable",
  };
  const range = parseRange(request.headers.range, sizeBytes);
  if (range === "unsatisfiable") {
    response.writeHead(416, { "content-range": `bytes */${sizeBytes}`, "content-length": 0 });
    return void response.end();
  }
  const blob = await services.artifacts.open(key, range ?? undefined);
  if (blob === null) throw new AppError("NOT_FOUND", "There is no such blob.");
  try {
    response.setTimeout(readStallMs, () => response.destroy());
    const length = range ? range.end - range.start + 1 : sizeBytes;
    const partial = range ? { "content-range": `bytes ${range.start}-${range.end}/${sizeBytes}` } : {};
    response.writeHead(range ? 206 : 200, { ...headers, ...partial, "content-length": length });
    await pipeline(blob.chunks, response);
  } catch (error) {
    // A client that leaves after the headers only wanted to know whether the blob is there: no error, and reading has stopped.
    if ((error as NodeJS.ErrnoException).code !== "ERR_STREAM_PREMATURE_CLOSE") throw error;
  } finally {
    await blob.close();
  }
}

async function receiveBlob({ request, response, services, caller }: Exchange): Promise<void> {
  const expectedSizeBytes = announcedBytes(request);
  const endWatch = watchBody(request, response, expectedSizeBytes);
  try {
    // The client takes success to be exactly 201 and exactly the digest (§1.2).
    sendText(response, 201, await services.artifacts.upload(caller, request, { expectedSizeBytes }));
  } finally {
    endWatch();
  }
}
