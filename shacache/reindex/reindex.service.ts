import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../common/errors.js";
import type { Caller } from "../../common/identity.js";
import type { Adoption } from "../artifact/adoption.js";
import type { PinRecords } from "../artifact/pin-records.js";
import type { BlobStore } from "../blob-store.js";
import { digestStored } from "../digest-stored.js";
import { DirectoryEntryEntity } from "../directory-entry/directory-entry.entity.js";
import type { DirectoryEntryRow } from "../directory-entry/directory-entry.service.js";
import type { EntryRecords } from "../directory-entry/entry-records.js";
import { makeIndexTables } from "./index-tables.js";

export interface ReindexState {
  startedAt: Date | null;
  finishedAt: Date | null;
  restoredEntries: number;
  restoredArtifacts: number;
  readBytes: number;
  failure: string | null;
}

const batchSize = 100;
const noteIntervalMs = 1_000;
const maxFailureLength = 500;

/**
 * Makes the index anew from what the store holds: the entries from their records, the blobs by reading each that the index
 * does not name, from end to end, which also gives their chunks new digests. What the index has is left as it is, so that a
 * run that broke off goes on with the next, and uploads go on meanwhile.
 */
export class ReindexService {
  readonly #orm: MikroORM;
  readonly #blobs: BlobStore;
  readonly #entries: EntryRecords;
  readonly #pins: PinRecords;
  readonly #adoption: Adoption;

  constructor(
    orm: MikroORM,
    blobs: BlobStore,
    records: { entries: EntryRecords; pins: PinRecords },
    adoption: Adoption,
  ) {
    this.#orm = orm;
    this.#blobs = blobs;
    this.#entries = records.entries;
    this.#pins = records.pins;
    this.#adoption = adoption;
  }

  /** How the present or last run stands; null for anybody but the administrator. */
  async state(caller: Caller): Promise<ReindexState | null> {
    if (caller.kind !== "administrator") return null;
    const [row] = await this.#orm.em.fork().execute<
      {
        started_at: Date | null;
        finished_at: Date | null;
        entries: string;
        artifacts: string;
        bytes: string;
        failure: string | null;
      }[]
    >("select started_at, finished_at, entries, artifacts, bytes, failure from shacache.reindex");
    return {
      startedAt: row?.started_at ? new Date(row.started_at) : null,
      finishedAt: row?.finished_at ? new Date(row.finished_at) : null,
      restoredEntries: Number(row?.entries ?? 0),
      restoredArtifacts: Number(row?.artifacts ?? 0),
      readBytes: Number(row?.bytes ?? 0),
      failure: row?.failure ?? null,
    };
  }

  /** Notes that a run is wanted: it is done as soon as may be, after a restart too. Administrator only. */
  async request(caller: Caller): Promise<ReindexState | null> {
    if (caller.kind !== "administrator")
      throw new AppError("FORBIDDEN", "Only the administrator makes the index anew.");
    await makeIndexTables(this.#orm);
    await this.#execute(
      `update shacache.reindex set started_at = now(), finished_at = null, entries = 0, artifacts = 0, bytes = 0, failure = null
       where started_at is null or finished_at is not null`,
    );
    return this.state(caller);
  }

  /** The run that is wanted, if one is; in one process at a time. What it fails by is kept for who asks. */
  async run(signal: AbortSignal): Promise<void> {
    const wanted = "select 1 from shacache.reindex where started_at is not null and finished_at is null";
    if ((await this.#orm.em.fork().execute<unknown[]>(wanted)).length === 0) return;
    const done = { entries: 0, artifacts: 0, bytes: 0, damaged: 0 };
    const noteProgress = () =>
      this.#execute("update shacache.reindex set entries = ?, artifacts = ?, bytes = ?", [
        done.entries,
        done.artifacts,
        done.bytes,
      ]);
    const noting = setInterval(() => void noteProgress().catch(() => undefined), noteIntervalMs);
    let failure: unknown = null;
    try {
      // Entries come first, because a blob that is found is whose its entry is.
      await this.#restoreEntries(done, signal);
      await this.#restoreBlobs(done, signal);
      await this.#restorePins();
    } catch (error) {
      // A run that the process ended is still wanted at its next start.
      signal.throwIfAborted();
      failure = error;
    } finally {
      clearInterval(noting);
    }
    await noteProgress();
    const lost =
      done.damaged > 0 ? `${done.damaged} records are damaged and were left out; the rest is restored.` : null;
    const text = failure === null ? lost : String((failure as Error).message).slice(0, maxFailureLength);
    await this.#execute("update shacache.reindex set finished_at = now(), failure = ?", [text]);
    if (failure !== null) throw failure;
  }

  async #restoreEntries(done: { entries: number; damaged: number }, signal: AbortSignal): Promise<void> {
    let batch: DirectoryEntryRow[] = [];
    const write = async () => {
      const em = this.#orm.em.fork();
      const known = await em.find(DirectoryEntryEntity, { id: { $in: batch.map(({ id }) => id) } }, { fields: ["id"] });
      const ids = new Set(known.map(({ id }) => id));
      const missing = batch.filter(({ id }) => !ids.has(id));
      batch = [];
      if (missing.length === 0) return;
      await em.upsertMany(DirectoryEntryEntity, missing, { onConflictFields: ["id"], onConflictAction: "ignore" });
      done.entries += missing.length;
    };
    for await (const row of this.#entries.read(() => done.damaged++)) {
      signal.throwIfAborted();
      batch.push(row);
      if (batch.length === batchSize) await write();
    }
    await write();
  }

  async #restoreBlobs(done: { artifacts: number; bytes: number }, signal: AbortSignal): Promise<void> {
    await this.#adoption.run({
      olderThanMs: 0,
      signal,
      digest: (object) => digestStored(this.#blobs, object),
      onRead: (sizeBytes, isAdopted) => {
        done.bytes += sizeBytes;
        if (isAdopted) done.artifacts++;
      },
    });
  }

  async #restorePins(): Promise<void> {
    for await (const sha512 of this.#pins.read())
      await this.#execute("update shacache.artifact set is_pinned = true where sha512 = ?", [sha512]);
  }

  async #execute(statement: string, values: unknown[] = []): Promise<void> {
    await this.#orm.em.fork().execute(statement, values);
  }
}
