import { createHash, type Hash } from "node:crypto";
import { readlinkSync } from "node:fs";
import os from "node:os";
import { parentPort } from "node:worker_threads";

/** One message for each chunk of an upload; one without bytes ends it. Answered in order. */
export interface HashMessage {
  upload: number;
  bytes: Uint8Array | null;
}

/** Behind the threads that answer, where the system lets a thread be so: uploads take what the others leave. */
const niceness = 5;

try {
  os.setPriority(Number(readlinkSync("/proc/thread-self").split("/").at(-1)), niceness);
} catch {
  // Not Linux, or not allowed.
}

const hashes = new Map<number, Hash>();

parentPort?.on("message", ({ upload, bytes }: HashMessage) => {
  const hash = hashes.get(upload) ?? createHash("sha512");
  if (bytes !== null) {
    hashes.set(upload, hash.update(bytes));
    parentPort?.postMessage(null);
  } else {
    hashes.delete(upload);
    parentPort?.postMessage(hash.digest("hex"));
  }
});
