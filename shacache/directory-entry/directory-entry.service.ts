import { createHash } from "node:crypto";
import { type InferEntity, raw } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../common/errors.js";
import type { EventLog } from "../../common/event-log.js";
import { type Caller, mainProject, mayOwn } from "../../common/identity.js";
import { pagePerParent } from "../../common/page-per-parent.js";
import { keyset, type Page } from "../../common/pagination.js";
import { anonymous, projectOfWriter } from "../artifact/artifact.service.js";
import type { CachePolicyRow } from "../cache-policy/cache-policy.service.js";
import type { UploadLimits } from "../cache-policy/upload-limits.js";
import type {
  TrustedCertificateRow,
  TrustedCertificateService,
} from "../trusted-certificate/trusted-certificate.service.js";
import { DirectoryEntryEntity } from "./directory-entry.entity.js";
import { idOf, parsePair, readMetadata } from "./entry-body.js";
import type { EntryRecords } from "./entry-records.js";

export type DirectoryEntryRow = InferEntity<typeof DirectoryEntryEntity>;

/** Each entry costs the reader a process that verifies its signature, so a key answers with its newest. */
const maxEntriesPerRead = 100;
const maxBytesPerRead = 4 * 1024 * 1024;
const maxKeyLength = 8_192;
const recordedAtOnce = 100;

export class DirectoryEntryService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #certificates: TrustedCertificateService;
  readonly #limits: UploadLimits;
  readonly #records: EntryRecords;

  constructor(
    orm: MikroORM,
    eventLog: EventLog,
    certificates: TrustedCertificateService,
    limits: UploadLimits,
    records: EntryRecords,
  ) {
    this.#records = records;
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#certificates = certificates;
    this.#limits = limits;
  }

  /**
   * Appends an entry; the identical one again is the same entry. The digest of the blob that it names, if any.
   * BAD_USER_INPUT when the body is not a pair of texts, UNTRUSTED_SIGNATURE where the project refuses what its certificates
   * did not sign.
   */
  async put(caller: Caller | null, key: string, body: string): Promise<string | null> {
    const project = projectOfWriter(caller);
    await this.#requireTrust(await this.#limits.admitRequest(project), body);
    return this.#append(key, body, caller?.subject ?? anonymous, project);
  }

  /** Takes over what nobody put here: an entry of an upstream directory. Refused as `put` refuses it, but not counted. */
  async keep(key: string, body: string, source: string): Promise<void> {
    await this.#requireTrust(await this.#limits.policyOf(mainProject), body);
    await this.#append(key, body, source, mainProject);
  }

  async #append(key: string, body: string, createdBy: string, project: string): Promise<string | null> {
    if (key.length === 0 || key.length > maxKeyLength)
      throw new AppError("BAD_USER_INPUT", `A key has 1 to ${maxKeyLength} characters.`);
    const [metadata, signature] = parsePair(body);
    const { sha512, releaseUrl } = readMetadata(metadata);
    const id = idOf(key, body);
    const [present] = await this.#orm.em.fork().execute<{ is_there: boolean; sequence: string; now: Date }[]>(
      `select exists (select 1 from shacache.directory_entry where id = ?) as is_there,
           nextval('shacache.entry_number') as sequence, now() as now`,
      [id],
    );
    const sequence = Number(present?.sequence);
    const createdAt = new Date(present?.now ?? Date.now());
    // The store knows an entry before the index does: what the index has, it can be given again.
    if (!present?.is_there)
      await this.#records.put({ id, key, body, createdAt, createdBy, project, sequence, isPinned: false });
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      // Holds the blob against a collection that is about to remove it: whichever comes second sees what the first did.
      if (sha512 !== null)
        await em.execute("update shacache.artifact set renewed_at = now() where sha512 = ?", [sha512]);
      const inserted = await em.execute<{ id: string }[]>(
        `insert into shacache.directory_entry
           (id, key, body, sha512, release_url, is_signed, created_at, sequence, created_by, project, is_recorded)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, true) on conflict (id) do nothing returning id`,
        [id, key, body, sha512, releaseUrl, signature.trim() !== "", createdAt, sequence, createdBy, project],
      );
      if (inserted.length === 0) return;
      await append({
        kind: "DirectoryEntryStored",
        subject: id.slice(0, 128),
        project,
        actor: createdBy,
        payload: { key: key.slice(0, 500) },
      });
    });
    return sha512;
  }

  async #requireTrust({ project, untrustedEntries }: CachePolicyRow, body: string): Promise<void> {
    const [metadata, signature] = parsePair(body);
    if (untrustedEntries !== "REFUSE") return;
    const { isChecked, signer } = await this.#certificates.signerOf(project, metadata, signature);
    if (isChecked && signer === null)
      throw new AppError("UNTRUSTED_SIGNATURE", "None of the project's trusted certificates signed this entry.");
  }

  /** Gives entries of older versions their records. Idempotent. */
  async recordOld(signal: AbortSignal): Promise<void> {
    for (;;) {
      const em = this.#orm.em.fork();
      const rows = await em.find(DirectoryEntryEntity, { isRecorded: false }, { limit: recordedAtOnce });
      for (const row of rows) {
        signal.throwIfAborted();
        await this.#records.put(row);
        row.isRecorded = true;
      }
      await em.flush();
      if (rows.length < recordedAtOnce) return;
    }
  }

  /** The stored bodies joined as they came, newest first; null for a key that was never put. */
  async read(key: string): Promise<string | null> {
    const rows = await this.#orm.em.fork().execute<{ body: string }[]>(
      `select body from (
         select body, sequence, sum(octet_length(body)) over (order by sequence desc) as bytes from (
           select body, sequence from shacache.directory_entry where md5(key) = md5(?) and key = ?
           order by sequence desc limit ${maxEntriesPerRead}) as newest) as summed
       where bytes <= ${maxBytesPerRead} order by sequence desc`,
      [key, key],
    );
    return rows.length === 0 ? null : `[${rows.map((row) => row.body).join(", ")}]`;
  }

  /** Who signed it, by what its project trusts now: null where it trusts nothing, and where none of that did. */
  async signerOf(row: DirectoryEntryRow): Promise<{ isChecked: boolean; signer: TrustedCertificateRow | null }> {
    return this.#certificates.signerOf(row.project, ...parsePair(row.body));
  }

  /** Owners of the entry's project only. A pinned entry is not retired, and its blob not collected. Idempotent. */
  async pin(caller: Caller, id: string, isPinned: boolean): Promise<DirectoryEntryRow> {
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await em.findOne(DirectoryEntryEntity, { id });
      if (!row) throw new AppError("NOT_FOUND", "There is no such entry.", { details: { path: ["input", "id"] } });
      if (!mayOwn(caller, row.project))
        throw new AppError("FORBIDDEN", "Pinning takes the role OWNER in the entry's project.");
      if (row.isPinned === isPinned) return row;
      row.isPinned = isPinned;
      await em.flush();
      await this.#records.put(row);
      const kind = isPinned ? "DirectoryEntryPinned" : "DirectoryEntryUnpinned";
      await append({ kind, subject: id.slice(0, 128), project: row.project, actor: caller.subject });
      return row;
    });
  }

  /** The entries of one key, in the order of their ids. */
  async entries(page: Page, key: string): Promise<DirectoryEntryRow[]> {
    const { where, options } = keyset("id", page);
    // The index is over the key's hash.
    const ofKey = { [raw("md5(key)")]: createHash("md5").update(key).digest("hex") };
    return this.#orm.em.fork().find(DirectoryEntryEntity, { $and: [where, { key }, ofKey] }, options);
  }

  /** One page of entries for each of the artifacts, in one go. */
  async entriesOfArtifacts(digests: readonly string[], page: Page): Promise<DirectoryEntryRow[][]> {
    return pagePerParent(this.#orm.em.fork(), {
      entity: DirectoryEntryEntity,
      parents: digests,
      parentSql: '"row"."sha512"',
      parentOf: (row) => row.sha512,
      key: "id",
      where: { sha512: { $in: [...digests] } },
      page,
    });
  }

  async entriesById(ids: readonly string[]): Promise<(DirectoryEntryRow | null)[]> {
    const rows = await this.#orm.em.fork().find(DirectoryEntryEntity, { id: { $in: [...ids] } });
    const byId = new Map(rows.map((row) => [row.id, row]));
    return ids.map((id) => byId.get(id) ?? null);
  }
}
