import type { Readable } from "node:stream";
import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EventLog } from "../../common/event-log.js";
import { type Caller, mainProject } from "../../common/identity.js";
import { keyset, type Page } from "../../common/pagination.js";
import type { BlobStore, ByteRange, ReceivedBlob } from "../blob-store.js";
import type { UploadLimits } from "../cache-policy/upload-limits.js";
import type { ChunkDigests } from "../chunk-digests.js";
import { digestStored } from "../digest-stored.js";
import { Gate } from "../gate.js";
import { CorruptBlobError } from "../indexed-blob.js";
import { type ReadCounts, receivedBytes } from "../statistics/read-counts.js";
import { openVerified, type VerifiedBlob } from "../verified-read.js";
import { ArtifactEntity } from "./artifact.entity.js";
import { type ArtifactFilterValues, conditionsOf } from "./artifact-filter.js";
import { ArtifactIndex, type KnownBlob } from "./artifact-index.js";

export type ArtifactRow = InferEntity<typeof ArtifactEntity>;

export const sha512Pattern = /^[0-9a-f]{128}$/;
export const anonymous = "anonymous";

/** Who brought what was found in the store and has no entry. */
const adopter = "scrub";

export const maxBlobBytes = 64 * 1024 ** 3;
/** A reader of a large blob has some chunks in memory, so there is a limit to them; within a minute the client gives up. */
const readers = new Gate(256, 45_000);
const smallBytes = 256 * 1024;
/** Why a blob is quarantined that the store does not have as it should. */
export const lost = "The store no longer has the blob.";
const tooShort = "The blob ends before its size.";

export interface Upload {
  expectedSizeBytes?: number;
  /** Named by the client before it sent; anything else is DIGEST_MISMATCH. */
  expectedSha512?: string;
}

/** Whose quota an upload counts for: the administrator's and anonymous ones are the project `main`'s. */
export function projectOfWriter(caller: Caller | null): string {
  return caller && caller.kind !== "administrator" ? caller.project : mainProject;
}

export class ArtifactService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #blobs: BlobStore;
  readonly #limits: UploadLimits;
  readonly #reads: ReadCounts;
  readonly #index: ArtifactIndex;
  /** Blobs that a collection decides about just now, each until it has. */
  readonly #judged = new Map<string, Promise<unknown>>();

  constructor(orm: MikroORM, eventLog: EventLog, blobs: BlobStore, limits: UploadLimits, reads: ReadCounts) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#blobs = blobs;
    this.#limits = limits;
    this.#reads = reads;
    this.#index = new ArtifactIndex(orm);
  }

  /**
   * Stores a blob: its bytes are durable and its digest known before the index names it. The digest. PAYLOAD_TOO_LARGE,
   * QUOTA_EXCEEDED or RATE_LIMITED by the policy of the caller's project.
   */
  async upload(caller: Caller | null, stream: Readable, upload: Upload): Promise<string> {
    const project = projectOfWriter(caller);
    const mostBytes = await this.#limits.admitBlob(project, upload.expectedSizeBytes ?? 0, maxBlobBytes);
    return this.#store(stream, upload, mostBytes, caller?.subject ?? anonymous, project);
  }

  /** QUOTA_EXCEEDED where there is no room for a blob that would come from upstream. */
  async requireRoom(sizeBytes: number): Promise<void> {
    await this.#limits.admitBytes(this.#orm.em.fork(), mainProject, sizeBytes);
  }

  /** Stores what nobody sent: a blob that came from upstream. */
  async keep(stream: Readable, upload: Upload, source: string): Promise<void> {
    await this.#store(stream, upload, maxBlobBytes, source, mainProject);
  }

  async #store(
    stream: Readable,
    upload: Upload,
    maxSizeBytes: number,
    uploadedBy: string,
    project: string,
  ): Promise<string> {
    const received = await this.#blobs.receive(stream, { maxSizeBytes, ...upload });
    receivedBytes.inc(received.sizeBytes);
    await this.admit(received, uploadedBy, project);
    return received.sha512;
  }

  /**
   * Names a stored object in the index, or removes it where the index names a copy that is there already. A crash before
   * this leaves an object without a name, which the scrub judges. True if it is the index's from now on.
   */
  async admit(received: ReceivedBlob, uploadedBy: string, project: string): Promise<boolean> {
    const { sha512, sizeBytes, location, digests } = received;
    const present = await this.#index.findAgain(sha512);
    const isThere = present !== null && (await this.#blobs.stat(present.location))?.sizeBytes === sizeBytes;
    const replaced = isThere ? null : (present?.location ?? null);
    const admitted = await this.#eventLog
      .transact(this.#orm, async (em, append) => {
        if (isThere) {
          // Stored again is as good as new: its age begins anew.
          const renewed = "update shacache.artifact set renewed_at = now() where sha512 = ? returning 1";
          if ((await em.execute<unknown[]>(renewed, [sha512])).length > 0) return false;
        }
        await this.#limits.admitBytes(em, project, sizeBytes);
        // Of identical uploads at once one wins; a row whose bytes were found missing is healed.
        const rows = await em.execute<{ healed: boolean }[]>(
          `insert into shacache.artifact (sha512, size_bytes, location, chunk_key, chunk_tags, created_at, renewed_at, uploaded_by, project)
         values (?, ?, ?, ?, ?, now(), now(), ?, ?)
         on conflict (sha512) do update set location = excluded.location, chunk_key = excluded.chunk_key, chunk_tags = excluded.chunk_tags
           where artifact.location = ?
         returning xmax <> 0 as healed`,
          [sha512, sizeBytes, location, digests.key.export(), digests.tags, uploadedBy, project, replaced],
        );
        const [row] = rows;
        if (row && !row.healed)
          await append({ kind: "ArtifactStored", subject: sha512, project, actor: uploadedBy, payload: { sizeBytes } });
        return row !== undefined;
      })
      .catch(async (error) => {
        // Refused, or the index is away: what nobody names goes, as far as it can.
        await this.#removeUnnamed(sha512, location).catch(() => undefined);
        throw error;
      });
    this.#index.forget(sha512);
    if (!admitted) await this.#removeUnnamed(sha512, location);
    return admitted;
  }

  /** Another process may have found the object and named it meanwhile. */
  async #removeUnnamed(sha512: string, location: string): Promise<void> {
    const named = await this.#index.findAgain(sha512);
    if (named?.location !== location) await this.#blobs.remove(location);
  }

  /**
   * Names a whole object that no index named. Its bytes may be the only ones there are, so no quota counts and no failure
   * removes them; they go only where the index names a copy that is there. It is whose its oldest entry is. True if it is
   * the index's from now on.
   */
  async adopt({ sha512, sizeBytes, location, digests }: ReceivedBlob, storedAt: Date): Promise<boolean> {
    const values = [sizeBytes, location, digests.key.export(), digests.tags];
    const isNew = await this.#eventLog.transact(this.#orm, async (em, append) => {
      const [row] = await em.execute<{ project: string }[]>(
        `insert into shacache.artifact (sha512, size_bytes, location, chunk_key, chunk_tags, created_at, renewed_at, uploaded_by, project)
         select ?, ?, ?, ?, ?, ?, now(), coalesce(entry.created_by, '${adopter}'), coalesce(entry.project, '${mainProject}')
         from (select 1) as one left join (
           select created_by, project from shacache.directory_entry where sha512 = ? order by sequence limit 1) as entry on true
         on conflict (sha512) do nothing returning project`,
        [sha512, ...values, storedAt, sha512],
      );
      if (!row) return false;
      await append({
        kind: "ArtifactStored",
        subject: sha512,
        project: row.project,
        actor: adopter,
        payload: { sizeBytes },
      });
      return true;
    });
    const named = await this.#index.findAgain(sha512);
    if (isNew || named === null || named.location === location) return isNew;
    if ((await this.#blobs.stat(named.location))?.sizeBytes === sizeBytes) {
      await this.#blobs.remove(location);
      return false;
    }
    await this.#orm.em
      .fork()
      .execute(
        "update shacache.artifact set size_bytes = ?, location = ?, chunk_key = ?, chunk_tags = ? where sha512 = ? and location = ?",
        [...values, sha512, named.location],
      );
    this.#index.forget(sha512);
    return true;
  }

  /** What a reader asks first, and is counted by. Null when there is no such blob. */
  async stat(sha512: string): Promise<{ sizeBytes: number } | null> {
    return this.#counted(sha512, () => this.#index.find(sha512));
  }

  /** Whether the index has it; no read of anybody, so nothing is counted. */
  async isNamed(sha512: string): Promise<boolean> {
    return (await this.#index.find(sha512)) !== null;
  }

  /** What is found is kept for who found it, so nobody looks while a collection decides. */
  async #counted<Found>(sha512: string, look: () => Promise<Found | null>): Promise<Found | null> {
    let found = await look();
    for (let judgement = this.#judged.get(sha512); judgement; judgement = this.#judged.get(sha512)) {
      await judgement;
      found = await look();
    }
    if (found === null) this.#reads.noteMiss();
    else this.#reads.noteHit(sha512);
    return found;
  }

  /** Decides whether a blob goes, while its readers of this process wait for the decision. */
  whileJudged<Result>(sha512: string, judge: () => Promise<Result>): Promise<Result> {
    const judgement = judge().finally(() => {
      this.#judged.delete(sha512);
      this.#index.forget(sha512);
    });
    this.#judged.set(
      sha512,
      judgement.catch(() => undefined),
    );
    return judgement;
  }

  /** Like `stat`, and the store has the bytes, as many as there should be. */
  async statStored(sha512: string): Promise<{ sizeBytes: number } | null> {
    return this.#counted(sha512, async () => {
      const known = await this.#index.findAgain(sha512);
      if (known === null) return null;
      const stored = await this.#blobs.stat(known.location);
      if (stored !== null && stored.sizeBytes >= known.sizeBytes) return known;
      await this.quarantine(sha512, known.location, stored ? tooShort : lost);
      return null;
    });
  }

  /** Where the store itself gives the blob to whoever has this address; null where there is no such blob or the store takes no clients. */
  async directUrl(sha512: string, termSeconds: number): Promise<string | null> {
    const known = await this.#index.findAgain(sha512);
    return known && this.#blobs.directUrl(known.location, termSeconds);
  }

  /**
   * Opens a blob or an inclusive range of it, every byte checked before it is yielded. Null when there is no such blob, also
   * when its bytes turn out to be corrupt before the first was yielded. One that turns out later breaks off. Corrupt bytes
   * are quarantined in both cases. A store or an index that does not answer throws: broken is not absent.
   */
  async open(sha512: string, range?: ByteRange): Promise<(VerifiedBlob & { sizeBytes: number }) | null> {
    const known = await this.#index.find(sha512);
    if (known === null) return null;
    const opened = await this.#open(sha512, known, range);
    if (opened !== null) return opened;
    // Not where it was: another process may have moved it.
    const moved = await this.#index.findAgain(sha512);
    if (moved !== null && moved.location !== known.location) return this.#open(sha512, moved, range);
    if (moved !== null) await this.quarantine(sha512, known.location, lost);
    return null;
  }

  async #open(sha512: string, known: KnownBlob, range?: ByteRange) {
    const { sizeBytes } = known;
    try {
      const digests = known.digests ?? (await this.#digestOnce(sha512, known));
      if (digests === null) return null;
      const blob = { ...known, digests };
      if (sizeBytes <= smallBytes) return this.#passed(sha512, known, await openVerified(this.#blobs, blob, range));
      const leave = await readers.enter();
      const opened = await openVerified(this.#blobs, blob, range).catch((error) => {
        leave();
        throw error;
      });
      if (opened === null) leave();
      return this.#passed(sha512, known, opened && { ...opened, close: () => opened.close().finally(leave) });
    } catch (error) {
      if (!(error instanceof CorruptBlobError)) throw error;
      await this.quarantine(sha512, known.location, error.message);
      return null;
    }
  }

  /** What an older version stored has no digests of its chunks yet: they are made when it is first read, and kept. */
  async #digestOnce(sha512: string, known: KnownBlob): Promise<ChunkDigests | null> {
    const found = await digestStored(this.#blobs, known);
    if (found === null) return null;
    if (found.sha512 !== sha512) throw new CorruptBlobError("The blob does not have its digest.");
    await this.#orm.em
      .fork()
      .execute("update shacache.artifact set chunk_key = ?, chunk_tags = ? where sha512 = ? and location = ?", [
        found.digests.key.export(),
        found.digests.tags,
        sha512,
        known.location,
      ]);
    return found.digests;
  }

  /** What goes out is counted, and what turns out to be corrupt on its way is quarantined. */
  #passed(
    sha512: string,
    known: KnownBlob,
    opened: VerifiedBlob | null,
  ): (VerifiedBlob & { sizeBytes: number }) | null {
    if (opened === null) return null;
    const { chunks, close } = opened;
    const { sizeBytes } = known;
    if (!Array.isArray(chunks))
      return { sizeBytes, close, chunks: this.#guard(sha512, known, chunks as AsyncIterable<Buffer>) };
    for (const chunk of chunks) this.#reads.noteSent(chunk.length);
    return { sizeBytes, close, chunks };
  }

  async *#guard(sha512: string, { location }: KnownBlob, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of chunks) {
        this.#reads.noteSent(chunk.length);
        yield chunk;
      }
    } catch (error) {
      if (error instanceof CorruptBlobError) await this.quarantine(sha512, location, error.message);
      throw error;
    }
  }

  /** From now on readers do not find it, so that a node uploads it again; its bytes are put aside. Idempotent; true the first time. */
  async quarantine(sha512: string, location: string, cause: string): Promise<boolean> {
    const isNew = await this.#eventLog.transact(this.#orm, async (em, append) => {
      const [row] = await em.execute<{ project: string; size_bytes: string }[]>(
        "delete from shacache.artifact where sha512 = ? and location = ? returning project, size_bytes",
        [sha512, location],
      );
      if (!row) return false;
      const payload = { sizeBytes: Number(row.size_bytes), location };
      await append({
        kind: "ArtifactQuarantined",
        subject: sha512,
        project: row.project,
        actor: "shacache",
        cause,
        payload,
      });
      return true;
    });
    this.#index.forget(sha512);
    await this.#blobs.quarantine(location);
    return isNew;
  }

  /** After the index has dropped the blob. Idempotent. */
  async dropBytes(sha512: string, location: string): Promise<void> {
    this.#index.forget(sha512);
    await this.#blobs.remove(location);
  }

  /** The blobs of the caller's project, or all for the administrator; none for nodes and instances, who know what they ask for. */
  async artifacts(caller: Caller, filter: ArtifactFilterValues, page: Page): Promise<ArtifactRow[]> {
    if (caller.kind === "node" || caller.kind === "instance") return [];
    const { where, options } = keyset("sha512", page);
    const visible = caller.kind === "administrator" ? {} : { project: caller.project };
    return this.#orm.em.fork().find(ArtifactEntity, { $and: [where, visible, ...conditionsOf(filter)] }, options);
  }

  async artifactsBySha512(digests: readonly string[]): Promise<(ArtifactRow | null)[]> {
    const rows = await this.#orm.em.fork().find(ArtifactEntity, { sha512: { $in: [...digests] } });
    const bySha512 = new Map(rows.map((row) => [row.sha512, row]));
    return digests.map((digest) => bySha512.get(digest) ?? null);
  }
}
