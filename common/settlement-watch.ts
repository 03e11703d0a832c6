import type { Sql } from "./session.js";

interface Look {
  last: string;
  own: string | null;
  oldest_running: string;
}

/**
 * Finds up to which position no event can appear any more. It notes the sequence's last value L and then takes a
 * transaction id X: whatever holds a position up to L had its own id before, hence below X. Once `pg_snapshot_xmin` has
 * reached X, all of those have ended, and L is settled.
 */
export class SettlementWatch {
  #fences: { position: number; transaction: bigint }[] = [];
  #settled = 0;

  /** Whether positions were given out that are not settled yet. */
  get isWaiting(): boolean {
    return this.#fences.length > 0;
  }

  /** The settled position by now. It may be one that a transaction took which rolled back. */
  async look(sql: Sql): Promise<number> {
    const noted = this.#fences.at(-1)?.position ?? this.#settled;
    // The value is read before the id is taken: a row's columns are fetched before the expressions on it are computed. The
    // snapshot is older than both, which only makes it settle less. A snapshot's xmax would not do for the id: it is one
    // past the last that ended, and transactions that run may be beyond it.
    const [row] = await sql.execute<Look[]>(
      `select case when is_called then last_value else 0 end as last,
         case when is_called and last_value > ? then pg_current_xact_id()::text end as own,
         pg_snapshot_xmin(pg_current_snapshot())::text as oldest_running
       from event_log.event_position`,
      [noted],
    );
    if (!row) return this.#settled;
    if (row.own !== null) this.#fences.push({ position: Number(row.last), transaction: BigInt(row.own) });
    const oldestRunning = BigInt(row.oldest_running);
    while (this.#fences[0] && this.#fences[0].transaction <= oldestRunning)
      this.#settled = this.#fences.shift()?.position ?? this.#settled;
    return this.#settled;
  }

  /** Starts anew from a position that is an event's, as after a crash of the database. */
  forget(position: number): void {
    this.#fences = [];
    this.#settled = position;
  }
}
