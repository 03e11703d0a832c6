import { createHash, type Hash } from "node:crypto";
import os from "node:os";
import { parentPort } from "node:worker_threads";

/** One message for each chunk of an upload; one without bytes ends it. Answered in order. */
export interface HashMessage {
  upload: number;
  bytes: Uint8Array | null;
}

/** Uploads that keep all cores busy do not hold up who answers: on Linux a thread has a priority of its own. */
os.setPriority(5);

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
