import { setTimeout as delay } from "node:timers/promises";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "./database.js";
import type { Logger } from "./log.js";

/** How much one transaction drops at most, so that none holds many locks or lasts long. */
export const dropStepSize = 1_000;
const roundIntervalMs = 3_600_000;

/**
 * Drops step by step until a step finds less than it may take; one replica at a time. `step` drops up to `dropStepSize`
 * rows in its transaction and says how many. Returns how many were dropped.
 */
export async function dropInSteps(
  orm: MikroORM,
  what: string,
  step: (em: EntityManager) => Promise<number>,
): Promise<number> {
  for (let count = 0; ; ) {
    const dropped = await orm.em.fork().transactional(async (em) => {
      const [lock] = await em.execute<{ held: boolean }[]>("select pg_try_advisory_xact_lock(hashtext(?)) as held", [
        `slapgraph retention of ${what}`,
      ]);
      return lock?.held ? step(em as EntityManager) : 0;
    });
    count += dropped;
    if (dropped < dropStepSize) return count;
  }
}

/** A round at once, or after a while, and then each hour until the signal. */
export async function dropHourly(
  what: string,
  drop: () => Promise<unknown>,
  { signal, log, firstAfterMs = 0 }: { signal: AbortSignal; log: Logger; firstAfterMs?: number },
): Promise<void> {
  for (let waitMs = firstAfterMs; !signal.aborted; waitMs = roundIntervalMs) {
    try {
      await delay(waitMs, undefined, { signal, ref: false });
      await drop();
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error }, `old ${what} were not dropped; the next round tries again`);
    }
  }
}
