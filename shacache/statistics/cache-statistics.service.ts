import type { MikroORM } from "@mikro-orm/postgresql";
import { type Caller, isMember } from "../../common/identity.js";
import type { ReadCounts } from "./read-counts.js";

export interface CacheTotals {
  project: string | null;
  artifactCount: number;
  sizeBytes: number;
  entryCount: number;
  hits: number;
  misses: number;
  sentBytes: number;
  scrub: {
    startedAt: Date | null;
    finishedAt: Date | null;
    checkedBlobs: number;
    checkedBytes: number;
    quarantined: number;
  };
}

export class CacheStatisticsService {
  readonly #orm: MikroORM;
  readonly #reads: ReadCounts;

  constructor(orm: MikroORM, reads: ReadCounts) {
    this.#orm = orm;
    this.#reads = reads;
  }

  /** What there is of a project, or of all, and how the door was read. Null for who is no member. */
  async totals(caller: Caller, days: number, named: string | null): Promise<CacheTotals | null> {
    const project = named ?? (caller.kind === "administrator" ? null : caller.project);
    if (project === null ? caller.kind !== "administrator" : !isMember(caller, project)) return null;
    await this.#reads.flush();
    const em = this.#orm.em.fork();
    const [[stored], [entries], [reads], [scrub]] = await Promise.all([
      em.execute<{ count: string; bytes: string }[]>(
        "select count(*) as count, coalesce(sum(size_bytes), 0) as bytes from shacache.artifact where project = coalesce(?, project)",
        [project],
      ),
      em.execute<{ count: string }[]>(
        "select count(*) as count from shacache.directory_entry where project = coalesce(?, project)",
        [project],
      ),
      em.execute<{ hits: string; misses: string; bytes: string }[]>(
        `select coalesce(sum(hits), 0) as hits, coalesce(sum(misses), 0) as misses, coalesce(sum(bytes), 0) as bytes
         from shacache.read_day where day > current_date - ?::int`,
        [days],
      ),
      em.execute<
        { started_at: Date | null; finished_at: Date | null; blobs: string; bytes: string; quarantined: string }[]
      >(
        "select started_at, finished_at, checked_blobs as blobs, checked_bytes as bytes, quarantined from shacache.scrub",
      ),
    ]);
    return {
      project,
      artifactCount: Number(stored?.count),
      sizeBytes: Number(stored?.bytes),
      entryCount: Number(entries?.count),
      hits: Number(reads?.hits),
      misses: Number(reads?.misses),
      sentBytes: Number(reads?.bytes),
      scrub: {
        startedAt: scrub?.started_at ? new Date(scrub.started_at) : null,
        finishedAt: scrub?.finished_at ? new Date(scrub.finished_at) : null,
        checkedBlobs: Number(scrub?.blobs),
        checkedBytes: Number(scrub?.bytes),
        quarantined: Number(scrub?.quarantined),
      },
    };
  }
}
