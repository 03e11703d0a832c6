import { createHash } from "node:crypto";
import os from "node:os";
import type { HashMessage } from "./hash.worker.js";
import { Thread } from "./thread.js";

/** SHA-512 of one upload, chunk by chunk in order. */
export interface Hashing {
  /** Resolves when the bytes are no longer needed. */
  update(bytes: Uint8Array): Promise<void>;
  end(): Promise<string>;
}

/** Small uploads are hashed where they are: passing them to a thread takes longer. */
const inPlaceBytes = 128 * 1024;

export function beginHashing(expectedSizeBytes: number | undefined): Hashing {
  return expectedSizeBytes !== undefined && expectedSizeBytes <= inPlaceBytes ? hashInPlace() : hashInThread();
}

function hashInPlace(): Hashing {
  const hash = createHash("sha512");
  return {
    update: async (bytes) => void hash.update(bytes),
    end: async () => hash.digest("hex"),
  };
}

/** A thread for each core, begun with the first upload that needs one. */
const threads: HashThread[] = [];
let uploads = 0;

function hashInThread(): Hashing {
  if (threads.length === 0) threads.push(...Array.from({ length: os.availableParallelism() }, () => new HashThread()));
  const thread = threads.reduce((least, one) => (one.uploadCount < least.uploadCount ? one : least));
  const upload = ++uploads;
  thread.uploadCount++;
  let isEnded = false;
  return {
    update: async (bytes) => void (await thread.ask({ upload, bytes })),
    end: async () => {
      if (!isEnded) thread.uploadCount--;
      isEnded = true;
      return (await thread.ask({ upload, bytes: null })) ?? "";
    },
  };
}

class HashThread extends Thread<HashMessage, string | null> {
  uploadCount = 0;

  constructor() {
    super("hash.worker", () => {
      const place = threads.indexOf(this);
      if (place !== -1) threads.splice(place, 1);
    });
  }
}
