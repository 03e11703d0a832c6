import type http from "node:http";
import type { Readable } from "node:stream";
import { AppError } from "../common/errors.js";

/** A write waits this long for its next byte. */
const uploadStallMs = 60_000;
/** A refused upload is read up to here, so that the client sees the status and not a broken pipe. */
const maxDrainBytes = 256 * 1024 * 1024;

export function announcedBytes(request: http.IncomingMessage): number {
  const header = request.headers["content-length"];
  if (header === undefined) throw new AppError("LENGTH_REQUIRED", "An upload says its length by Content-Length.");
  return Number(header);
}

export function cutWhenStalled(request: http.IncomingMessage): void {
  request.setTimeout(uploadStallMs, () => request.destroy());
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
