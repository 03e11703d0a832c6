import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "./database.js";
import { AppError } from "./errors.js";
import type { EventLog } from "./event-log.js";
import type { Logger } from "./log.js";
import { dropHourly, dropInSteps, dropStepSize } from "./retention.js";

export const tokenRevokedKind = "TokenRevoked";

/** How long a revocation outlives its token, whatever the clocks of the processes say. */
const keptBeyondExpiryHours = 24;

/** Written in the transaction that revokes, beside the `TokenRevoked` event whose subject is the token's id. */
export async function recordRevocation(em: EntityManager, tokenId: string, expiresAt: Date): Promise<void> {
  await em.execute(
    "insert into event_log.revoked_token (token_id, expires_at) values (?, ?) on conflict (token_id) do nothing",
    [tokenId, expiresAt],
  );
}

/**
 * The ids of tokens that are revoked and would not have expired since, held in memory by every process and kept current
 * from the event log: a hint arrives within milliseconds, the log's poll bounds a lost hint to a second.
 */
export class RevocationList {
  readonly #revoked = new Set<string>();
  readonly #stopping = new AbortController();
  readonly #orm: MikroORM;
  #running: Promise<unknown> = Promise.resolve();

  private constructor(orm: MikroORM) {
    this.#orm = orm;
  }

  /** Has every revocation that was acknowledged before the call. */
  static async open(orm: MikroORM, eventLog: EventLog, log: Logger): Promise<RevocationList> {
    const list = new RevocationList(orm);
    const position = await list.#load(eventLog);
    const { signal } = list.#stopping;
    list.#running = Promise.all([
      list.#follow(eventLog, position, log),
      dropHourly("revocations", () => list.dropExpired(), { signal, log }),
    ]);
    return list;
  }

  /** Returns the position from which to follow: the one noted before the table was read. */
  async #load(eventLog: EventLog): Promise<number> {
    const position = eventLog.horizon;
    for (const tokenId of await this.#kept()) this.#revoked.add(tokenId);
    return position;
  }

  async #kept(): Promise<string[]> {
    const rows = await this.#orm.em
      .fork()
      .execute<{ token_id: string }[]>("select token_id from event_log.revoked_token");
    return rows.map((row) => row.token_id);
  }

  /** Drops the revocations of tokens that have expired, here and, whoever does it, in the database. */
  async dropExpired(): Promise<number> {
    const count = await dropInSteps(this.#orm, "revocations", async (em) => {
      const rows = await em.execute<object[]>(
        `delete from event_log.revoked_token where token_id in (
           select token_id from event_log.revoked_token
           where expires_at < now() - interval '${keptBeyondExpiryHours} hours' limit ${dropStepSize}) returning token_id`,
      );
      return rows.length;
    });
    // What comes meanwhile is newer than the list that is read, and stays.
    const known = [...this.#revoked];
    const kept = new Set(await this.#kept());
    for (const tokenId of known) if (!kept.has(tokenId)) this.#revoked.delete(tokenId);
    return count;
  }

  /** What this process has just revoked is refused here at once; other processes learn of it by the log. */
  add(tokenId: string): void {
    this.#revoked.add(tokenId);
  }

  readonly isRevoked = (tokenId: string): boolean => this.#revoked.has(tokenId);

  async close(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #follow(eventLog: EventLog, from: number, log: Logger): Promise<void> {
    const { signal } = this.#stopping;
    for (let position = from; !signal.aborted; ) {
      try {
        await eventLog.waitPast(position, 60_000, signal);
        const horizon = eventLog.horizon;
        const events = await eventLog.readAfter(position);
        for (const event of events) {
          if (event.kind === tokenRevokedKind) this.#revoked.add(event.subject);
        }
        position = events.at(-1)?.position ?? Math.max(position, horizon);
      } catch (error) {
        if (signal.aborted || eventLog.isStopping) return;
        log.error({ err: error }, "revocations cannot be followed just now");
        // Cut off for so long that the log no longer has what came meanwhile: the table has it.
        if (error instanceof AppError && error.code === "RESUME_EXPIRED")
          position = await this.#load(eventLog).catch(() => position);
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
    }
  }
}
