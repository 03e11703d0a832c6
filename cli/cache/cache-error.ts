import { setTimeout as delay } from "node:timers/promises";

/**
 * `refused`: asking again gives the same. `unreachable`: it may pass. `beyond`: a part of a blob is longer than the blob.
 * `differs`: bytes do not have their digest. `absent`: the cache has no such blob.
 */
export type CacheErrorKind = "refused" | "unreachable" | "beyond" | "differs" | "absent";

export class CacheError extends Error {
  override readonly name = "CacheError";
  readonly kind: CacheErrorKind;
  readonly retryAfterMs: number | undefined;

  constructor(kind: CacheErrorKind, message: string, retryAfterMs?: number) {
    super(message);
    this.kind = kind;
    this.retryAfterMs = retryAfterMs;
  }
}

const maxAttempts = 5;
const firstPauseMs = 500;
const maxPauseMs = 30_000;

/** Tries again what may pass by itself, as long as the tries go nowhere fewer than five times in a row. */
export async function withRetries<T>(attempt: () => Promise<T>, progressBytes: () => number = () => 0): Promise<T> {
  for (let failures = 1, seen = progressBytes(); ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof CacheError) || error.kind !== "unreachable") throw error;
      const now = progressBytes();
      if (now > seen) failures = 1;
      seen = now;
      if (failures >= maxAttempts) throw error;
      await delay(Math.min(error.retryAfterMs ?? firstPauseMs * 2 ** (failures - 1), maxPauseMs));
    }
  }
}
