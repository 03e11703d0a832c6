import type { Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Client, type Pool, type PoolClient } from "pg";
import type { Logger } from "./log.js";

/** A connection that is held for so long is a reason to ask whether the database still answers. */
const suspectAfterMs = 5_000;
const answerTimeoutMs = 5_000;
const checkIntervalMs = 1_000;

/**
 * Cuts the connections of a pool whose database takes connections and answers nothing, so that callers are told to try
 * again in seconds and not when their statements time out. A statement that is merely slow goes on: another connection is
 * answered meanwhile.
 */
export function cutWhenHung(pool: Pool, url: string, log: Logger): void {
  const heldSince = new Map<PoolClient, number>();
  pool.on("acquire", (client) => heldSince.set(client, Date.now()));
  pool.on("release", (_error, client) => heldSince.delete(client));
  pool.on("remove", (client) => heldSince.delete(client));
  let isAsking = false;
  const check = async () => {
    const suspects = [...heldSince].filter(([, since]) => Date.now() - since >= suspectAfterMs);
    if (suspects.length === 0 || isAsking) return;
    isAsking = true;
    if (!(await answers(url))) {
      log.warn("the database takes connections and does not answer; those that wait for it are cut");
      // `end` would wait for the answers to what was sent together.
      for (const [client] of heldSince)
        (client as unknown as { connection: { stream: Socket } }).connection.stream.destroy();
    }
    isAsking = false;
  };
  const timer = setInterval(() => (pool.ended ? clearInterval(timer) : void check()), checkIntervalMs);
  timer.unref();
}

/** A refusal is an answer too. */
async function answers(url: string): Promise<boolean> {
  const client = new Client({ connectionString: url });
  client.on("error", () => undefined);
  const asked = (async () => {
    try {
      await client.connect();
      await client.query("select 1");
    } catch {
      // Said nothing, or said no: either was in time, or is not waited for any more.
    }
    return true;
  })();
  const isAnswered = await Promise.race([asked, delay(answerTimeoutMs, false, { ref: false })]);
  void client.end().catch(() => undefined);
  return isAnswered;
}
