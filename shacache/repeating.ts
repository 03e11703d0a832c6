import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import type { Logger } from "../common/log.js";

const retryMs = 60_000;

/** Work that is done again and again until it is closed; one that fails is logged and tried again sooner. */
export class Repeating {
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #woken = new AbortController();

  /** The first time at once, then `everyMs` after the end of the last. */
  constructor(what: string, everyMs: number, work: (signal: AbortSignal) => Promise<unknown>, log: Logger) {
    this.#running = this.#run(what, everyMs, work, log);
  }

  /** Does not wait for the next time; while it is at work, the next time follows at once. */
  now(): void {
    this.#woken.abort();
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(what: string, everyMs: number, work: (signal: AbortSignal) => Promise<unknown>, log: Logger) {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      this.#woken = new AbortController();
      let waitMs = everyMs;
      try {
        await work(signal);
      } catch (error) {
        if (signal.aborted) return;
        log.warn({ err: error }, `${what} failed and will be tried again`);
        waitMs = Math.min(retryMs, everyMs);
      }
      const either = AbortSignal.any([signal, this.#woken.signal]);
      await delay(waitMs, undefined, { signal: either, ref: false }).catch(() => undefined);
    }
  }
}

/** Runs the work in one process at a time; does nothing where another one has it. The lock goes with its holder, however that ends. */
export async function onlyHere(databaseUrl: string, name: string, work: () => Promise<unknown>): Promise<void> {
  const lock = new Client({ connectionString: databaseUrl });
  lock.on("error", () => undefined);
  await lock.connect();
  try {
    const { rows } = await lock.query("select pg_try_advisory_lock(hashtext($1)) as held", [`slapgraph ${name}`]);
    if (rows[0]?.held) await work();
  } finally {
    await lock.end().catch(() => undefined);
  }
}
