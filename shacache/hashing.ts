import { createHash } from "node:crypto";
import os from "node:os";
import { Worker } from "node:worker_threads";
import type { HashMessage } from "./hash.worker.js";

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

/** A thread for each core, begun with the first upload that needs one. They do not keep the process. */
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

interface Asked {
  resolve: (digest: string | null) => void;
  reject: (error: Error) => void;
}

class HashThread {
  uploadCount = 0;
  readonly #asked: Asked[] = [];
  /** Under a loader of sources it is the source that is there. */
  readonly #worker = new Worker(
    new URL(`./hash.worker${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url),
  );

  constructor() {
    this.#worker.unref();
    this.#worker.on("message", (digest: string | null) => this.#asked.shift()?.resolve(digest));
    this.#worker.on("error", (error) => this.#end(error as Error));
    this.#worker.on("exit", () => this.#end(new Error("A thread that hashes has ended.")));
  }

  ask(message: HashMessage): Promise<string | null> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject });
      this.#worker.postMessage(message);
    });
  }

  #end(error: Error): void {
    for (const { reject } of this.#asked.splice(0)) reject(error);
    const place = threads.indexOf(this);
    if (place !== -1) threads.splice(place, 1);
  }
}
