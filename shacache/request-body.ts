import type http from "node:http";
import { AppError } from "../common/errors.js";
import { sendText } from "../common/http-door.js";
import type { Exchange } from "./routes.js";

/** What comes slower than this on the whole is cut too: a byte a minute would hold a connection for ever. */
const leastBytesPerMs = 8;
const longestUploadMs = 12 * 3_600_000;
/** A refused upload is read up to here, so that the client sees the status and not a broken pipe. */
const maxDrainBytes = 1024 ** 3;
const maxDrainMs = 30_000;
/** A client that sends nothing more is waiting for the answer, or only pauses. */
const answerAfterMs = 500;
const longestPauseMs = 5_000;

export function announcedBytes(request: http.IncomingMessage): number {
  const header = request.headers["content-length"];
  if (header === undefined) throw new AppError("LENGTH_REQUIRED", "An upload says its length by Content-Length.");
  return Number(header);
}

/** Answers 408 and cuts the connection where a body stalls or trickles. Returns what ends the watch. */
export function watchBody({ request, response, uploadStallMs }: Exchange, sizeBytes: number): () => void {
  const cut = () => {
    // The last byte is here: what takes its time now is us.
    if (request.complete || response.headersSent) return;
    response.once("close", () => request.destroy());
    response.setHeader("connection", "close");
    sendText(response, 408, "UPLOAD_STALLED: The body came too slowly.\n");
  };
  const limitMs = Math.min(longestUploadMs, uploadStallMs + sizeBytes / leastBytesPerMs);
  const deadline = setTimeout(cut, limitMs).unref();
  // On the response: once the last byte is here, a silence that only the request listens to would end the connection.
  response.setTimeout(uploadStallMs, () => {
    // What has come and waits to be read waits for us: that is the store's time, not the client's.
    if (request.readableLength > 0) request.socket.setTimeout(uploadStallMs);
    else cut();
  });
  return () => clearTimeout(deadline);
}

/**
 * Answers while the rest of a refused upload may still come, and reads on for a while: closing would take the answer away from
 * a client that had only paused.
 */
export async function answerEarly(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  status: number,
  text: string,
): Promise<void> {
  response.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(text),
  });
  response.write(text);
  await drain(request, longestPauseMs);
  response.end();
}

/** Reads what is left of a refused upload, up to a bound and while bytes keep coming. */
export function drain(request: http.IncomingMessage, quietMs = answerAfterMs): Promise<void> {
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
    const quiet = setTimeout(end, quietMs);
    request.on("data", count);
    for (const event of ["end", "error", "close"]) request.once(event, end);
    request.resume();
  });
}
