import type { MikroORM } from "@mikro-orm/postgresql";
import { Counter } from "prom-client";
import { metrics } from "../../common/metrics.js";

const maxNoted = 100_000;

const reads = new Counter({
  name: "slapgraph_shacache_reads_total",
  help: "Reads of blobs, existence probes included, by whether the blob was there.",
  labelNames: ["result"],
  registers: [metrics],
});
const sentBytes = new Counter({
  name: "slapgraph_shacache_sent_bytes_total",
  help: "Bytes of blobs that were sent.",
  registers: [metrics],
});
/** Counted beside what was sent, by whoever stores. */
export const receivedBytes = new Counter({
  name: "slapgraph_shacache_received_bytes_total",
  help: "Bytes of blobs that were stored, from uploads and from upstream.",
  registers: [metrics],
});

/** Who reads how much and when, noted in memory and written for many reads together. A crash forgets the last half minute. */
export class ReadCounts {
  readonly #orm: MikroORM;
  #noted = new Map<string, { count: number; lastAt: number }>();
  /** What is being written just now. */
  #writing: ReadonlyMap<string, unknown> = new Map();
  #totals = { hits: 0, misses: 0, bytes: 0 };

  constructor(orm: MikroORM) {
    this.#orm = orm;
  }

  /** A probe that leaves after the headers counts too: it is how a push keeps a blob that is there already. */
  noteHit(sha512: string): void {
    reads.inc({ result: "hit" });
    this.#totals.hits++;
    const noted = this.#noted.get(sha512);
    if (noted) {
      noted.count++;
      noted.lastAt = Date.now();
    } else if (this.#noted.size < maxNoted) this.#noted.set(sha512, { count: 1, lastAt: Date.now() });
  }

  noteMiss(): void {
    reads.inc({ result: "miss" });
    this.#totals.misses++;
  }

  noteSent(sizeBytes: number): void {
    sentBytes.inc(sizeBytes);
    this.#totals.bytes += sizeBytes;
  }

  /** Whether it was read since the last time that reads were written. */
  isJustRead(sha512: string): boolean {
    return this.#noted.has(sha512) || this.#writing.has(sha512);
  }

  /** Writes what was noted since the last time; keeps it where the database is away. */
  async flush(): Promise<void> {
    const noted = [...this.#noted].map(([sha512, { count, lastAt }]) => ({ sha512, count, last_at: new Date(lastAt) }));
    const totals = this.#totals;
    this.#writing = this.#noted;
    this.#noted = new Map();
    this.#totals = { hits: 0, misses: 0, bytes: 0 };
    try {
      await this.#orm.em.fork().transactional(async (em) => {
        // In one order everywhere, so that two processes do not wait for one another.
        if (noted.length > 0)
          await em.execute(
            `update shacache.artifact set read_count = read_count + noted.count, last_read_at = greatest(last_read_at, noted.last_at)
             from (select * from jsonb_to_recordset(?::jsonb) as noted (sha512 text, count bigint, last_at timestamptz) order by sha512) as noted
             where artifact.sha512 = noted.sha512`,
            [JSON.stringify(noted)],
          );
        if (totals.hits + totals.misses > 0)
          await em.execute(
            `insert into shacache.read_day (day, hits, misses, bytes) values (current_date, ?, ?, ?)
             on conflict (day) do update set hits = read_day.hits + excluded.hits, misses = read_day.misses + excluded.misses,
               bytes = read_day.bytes + excluded.bytes`,
            [totals.hits, totals.misses, totals.bytes],
          );
      });
    } catch (error) {
      for (const { sha512, count, last_at } of noted) this.#putBack(sha512, count, last_at.getTime());
      this.#totals.hits += totals.hits;
      this.#totals.misses += totals.misses;
      this.#totals.bytes += totals.bytes;
      throw error;
    } finally {
      this.#writing = new Map();
    }
  }

  #putBack(sha512: string, count: number, lastAt: number): void {
    const noted = this.#noted.get(sha512);
    if (noted) noted.count += count;
    else if (this.#noted.size < maxNoted) this.#noted.set(sha512, { count, lastAt });
  }
}
