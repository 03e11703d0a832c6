import type http from "node:http";
import { AppError } from "../common/errors.js";
import { sendText } from "../common/http-door.js";

/** A write waits this long for its next byte. */
const uploadStallMs = 60_000;
/** What comes slower than this on the whole is cut too: a byte a minute would hold a connection for ever. */
const leastBytesPerMs = 8;
const longestUploadMs = 12 * 3_600_000;
/** A refused upload is read up to here, so that the client sees the status and not a broken pipe. */
const maxDrainBytes = 256 * 1024 * 1024;
const maxDrainMs = 30_000;
/** A client that sends nothing more is waiting for the answer. */
const drainQuietMs = 500;

export function announcedBytes(request: http.IncomingMessage): number {
  const header = request.headers["content-length"];
  if (header === undefined) throw new AppError("LENGTH_REQUIRED", "An upload says its length by Content-Length.");
  return Number(header);
}

/** Answers 408 and cuts the connection where a body stalls or trickles. Returns what ends the watch. */
export function watchBody(request: http.IncomingMessage, response: http.ServerResponse, sizeBytes: number): () => void {
  const cut = () => {
    // The last byte is here: what takes its time now is us.
    if (request.complete || response.headersSent) return;
    response.once("close", () => request.destroy());
    response.setHeader("connection", "close");
    sendText(response, 408, "UPLOAD_STALLED: The body came too slowly.\n");
  };
  const limitMs = Math.min(longestUploadMs, uploadStallMs + sizeBytes / leastBytesPerMs);
  const deadline = setTimeout(cut, limitMs).unref();
  request.setTimeout(uploadStallMs, cut);
  return () => clearTimeout(deadline);
}

/** Reads what is left of a refused upload, up to a bound and while bytes keep coming. */
export function drain(request: http.IncomingMessage): Promise<void> {
  return new Promise((resolve) => {
    let sizeBytes = 0;
    const end = () => {
      clearTimeout(deadline);
      clearTimeout(quiet);
      request.off("data", count);
      resolve();
    };
    const count = (bytes: Buffer) => {
      sizeBytes += bytes.length;
      quiet.refresh();
      if (sizeBytes > maxDrainBytes) end();
    };
    const deadline = setTimeout(end, maxDrainMs);
    const quiet = setTimeout(end, drainQuietMs);
    request.on("data", count);
    for (const event of ["end", "error", "close"]) request.once(event, end);
    request.resume();
  });
}
