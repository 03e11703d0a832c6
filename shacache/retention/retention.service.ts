import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../common/errors.js";
import type { EventLog } from "../../common/event-log.js";
import { type Caller, isMember, mayOwn, projectOf, requireOwner } from "../../common/identity.js";
import type { Page } from "../../common/pagination.js";
import { ArtifactEntity } from "../artifact/artifact.entity.js";
import type { ArtifactRow, ArtifactService } from "../artifact/artifact.service.js";
import type { PinRecords } from "../artifact/pin-records.js";
import type { EntryRecords } from "../directory-entry/entry-records.js";
import type { ReadCounts } from "../statistics/read-counts.js";
import { collectable, deleteRetiredEntries } from "./retention.sql.js";

export type RetentionRule = "AGE" | "UNREAD" | "NEWEST_PER_KEY";

export interface CollectableRow {
  sha512: string;
  location: string;
  size_bytes: string;
  project: string;
  rule: RetentionRule;
}

export interface CollectionResult {
  artifactCount: number;
  sizeBytes: number;
}

const batchSize = 100;
const collector = "collection";

/** What the policies of projects say is to go, and its going. */
export class RetentionService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #artifacts: ArtifactService;
  readonly #reads: ReadCounts;
  readonly #records: EntryRecords;
  readonly #pins: PinRecords;

  constructor(
    orm: MikroORM,
    eventLog: EventLog,
    artifacts: ArtifactService,
    reads: ReadCounts,
    records: { entries: EntryRecords; pins: PinRecords },
  ) {
    this.#records = records.entries;
    this.#pins = records.pins;
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#artifacts = artifacts;
    this.#reads = reads;
  }

  /** How much a collection of a project would remove now; null for who is no member. */
  async preview(caller: Caller, project: string): Promise<(CollectionResult & { project: string }) | null> {
    if (!isMember(caller, project)) return null;
    await this.#reads.flush();
    const [row] = await this.#orm.em
      .fork()
      .execute<{ count: string; bytes: string | null }[]>(
        `select count(*) as count, sum(size_bytes) as bytes from (${collectable} and artifact.project = ?) as found`,
        [new Date(), project],
      );
    return { project, artifactCount: Number(row?.count ?? 0), sizeBytes: Number(row?.bytes ?? 0) };
  }

  /** What a collection of a project would remove now. */
  async collectableArtifacts(project: string, page: Page): Promise<CollectableRow[]> {
    const direction = page.backward ? "desc" : "asc";
    // Digests are hexadecimal: every one lies between nothing and `z`.
    return this.#orm.em.fork().execute<CollectableRow[]>(
      `${collectable} and artifact.project = ? and artifact.sha512 > ? and artifact.sha512 < ?
         order by artifact.sha512 ${direction} limit ${page.limit + 1}`,
      [new Date(), project, page.after ?? "", page.before ?? "z"],
    );
  }

  /** Removes what the policy of a project says now. Owners only. */
  async collectProject(caller: Caller, named: string | null | undefined) {
    const project = projectOf(caller, named);
    requireOwner(caller, project, "Collecting");
    return { project, ...(await this.collect(caller.subject, new Date(), project)) };
  }

  /** Removes what the policies say at a time, in all projects or in one. Idempotent, also at once in several processes. */
  async collect(actor = collector, time = new Date(), project: string | null = null): Promise<CollectionResult> {
    const result: CollectionResult = { artifactCount: 0, sizeBytes: 0 };
    await this.#reads.flush();
    for (let after = ""; ; ) {
      const rows = await this.#orm.em.fork().execute<CollectableRow[]>(
        `${collectable} and artifact.project = coalesce(?, artifact.project) and artifact.sha512 > ?
           order by artifact.sha512 limit ${batchSize}`,
        [time, project, after],
      );
      for (const row of rows) {
        after = row.sha512;
        if (!(await this.#remove(row, actor, time))) continue;
        result.artifactCount++;
        result.sizeBytes += Number(row.size_bytes);
      }
      if (rows.length < batchSize) break;
    }
    const condition = project === null ? [] : [project];
    const retired = await this.#orm.em
      .fork()
      .execute<{ id: string }[]>(
        `${deleteRetiredEntries}${project === null ? "" : " and entry.project = ?"} returning entry.id`,
        condition,
      );
    await this.#records.remove(retired.map(({ id }) => id));
    return result;
  }

  /**
   * The blob's row is locked and looked at again: an entry that came meanwhile, whose transaction holds the same row, is seen
   * here, and one that comes later finds the blob gone. The bytes go after the commit; a crash between leaves an object
   * without a name, which the scrub judges.
   */
  async #remove({ sha512, location }: CollectableRow, actor: string, time: Date): Promise<boolean> {
    const removed = await this.#artifacts.whileJudged(sha512, () => this.#unname({ sha512, location }, actor, time));
    if (removed === null) return false;
    // Bytes and records go after the index: what a crash leaves of them the scrub judges, or nobody asks for.
    await this.#records.remove(removed.map(({ id }) => id));
    await this.#artifacts.dropBytes(sha512, location);
    return true;
  }

  /** The entries that went with it; null where it stays. */
  #unname({ sha512, location }: Pick<CollectableRow, "sha512" | "location">, actor: string, time: Date) {
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      await em.execute("select 1 from shacache.artifact where sha512 = ? for update", [sha512]);
      const [row] = await em.execute<CollectableRow[]>(
        `${collectable} and artifact.sha512 = ? and artifact.location = ?`,
        [time, sha512, location],
      );
      if (!row || this.#reads.isJustRead(sha512)) return null;
      const entries = await em.execute<{ id: string }[]>(
        "delete from shacache.directory_entry where sha512 = ? returning id",
        [sha512],
      );
      await em.execute("delete from shacache.artifact where sha512 = ?", [sha512]);
      const payload = { sizeBytes: Number(row.size_bytes), rule: row.rule };
      await append({ kind: "ArtifactCollected", subject: sha512, project: row.project, actor, payload });
      return entries;
    });
  }

  /** Owners of the blob's project only. A pinned blob is never collected. Idempotent. */
  async pinArtifact(caller: Caller, sha512: string, isPinned: boolean): Promise<ArtifactRow> {
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await em.findOne(ArtifactEntity, { sha512: sha512.toLowerCase() });
      if (!row) throw new AppError("NOT_FOUND", "There is no such blob.", { details: { path: ["input", "sha512"] } });
      if (!mayOwn(caller, row.project))
        throw new AppError("FORBIDDEN", "Pinning takes the role OWNER in the blob's project.");
      if (row.isPinned === isPinned) return row;
      row.isPinned = isPinned;
      await em.flush();
      await (isPinned ? this.#pins.put(row.sha512) : this.#pins.remove(row.sha512));
      const kind = isPinned ? "ArtifactPinned" : "ArtifactUnpinned";
      await append({ kind, subject: row.sha512, project: row.project, actor: caller.subject });
      return row;
    });
  }
}
