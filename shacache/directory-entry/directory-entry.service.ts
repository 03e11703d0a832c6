import { createHash } from "node:crypto";
import { type InferEntity, raw } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { commandInProgress } from "../../common/audit.js";
import { Batches } from "../../common/batches.js";
import { AppError } from "../../common/errors.js";
import type { EventLog, NewEvent } from "../../common/event-log.js";
import { type Caller, mainProject, mayOwn } from "../../common/identity.js";
import { pagePerParent } from "../../common/page-per-parent.js";
import { keyset, type Page } from "../../common/pagination.js";
import { inSession, textArray } from "../../common/session.js";
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
/** So many keys are read by one statement, which bounds what their entries take in memory. */
const maxKeysPerStatement = 8;
const maxEntriesPerTransaction = 32;
const recordedAtOnce = 100;

/** An entry on its way into the index. */
interface NewEntry {
  id: string;
  key: string;
  body: string;
  sha512: string | null;
  releaseUrl: string | null;
  isSigned: boolean;
  createdBy: string;
  project: string;
  event: NewEvent;
}

export class DirectoryEntryService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #certificates: TrustedCertificateService;
  readonly #limits: UploadLimits;
  readonly #records: EntryRecords;
  /** What comes while others are read or written goes with the next ones: entries that come at once cost one another little. */
  readonly #reads = new Batches<string, string | null>((_, keys) => this.#readAll(keys), maxKeysPerStatement);
  readonly #writes = new Batches<NewEntry, null>((_, entries) => this.#appendAll(entries), maxEntriesPerTransaction);

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
    const event = {
      kind: "DirectoryEntryStored",
      subject: id.slice(0, 128),
      project,
      actor: createdBy,
      payload: { key: key.slice(0, 500) },
      command: commandInProgress(),
    };
    const isSigned = signature.trim() !== "";
    await this.#writes.submit("", { id, key, body, sha512, releaseUrl, isSigned, createdBy, project, event });
    return sha512;
  }

  /** One transaction for all of them. An entry whose record the store did not take is not entered; the others are. */
  async #appendAll(entries: readonly NewEntry[]): Promise<(AppError | null)[]> {
    const distinct = new Map(entries.toReversed().map((entry) => [entry.id, entry]));
    const numbered = await this.#number([...distinct.values()].toReversed());
    // The store knows an entry before the index does: what the index has, it can be given again.
    const missing = numbered.filter(({ isThere }) => !isThere).map((row) => ({ ...row, isPinned: false }));
    const answers = missing.length === 0 ? [] : await this.#records.putAll(missing);
    const failures = new Map(missing.map(({ id }, place) => [id, answers[place]]));
    await this.#enter(numbered.filter(({ id }) => !failures.get(id)));
    return entries.map(({ id }) => failures.get(id) ?? null);
  }

  /** Gives each its place, in their order, and says which are there already. */
  async #number(entries: readonly NewEntry[]) {
    const found = await inSession(this.#orm, (session) =>
      session.execute<{ is_there: boolean; sequence: string; now: Date }[]>(
        `select exists (select 1 from shacache.directory_entry where id = asked.id) as is_there,
           nextval('shacache.entry_number') as sequence, now() as now
         from unnest(?::text[]) with ordinality as asked (id, place) order by place`,
        [textArray(entries.map(({ id }) => id))],
      ),
    );
    const rows = found.toSorted((a, b) => Number(a.sequence) - Number(b.sequence));
    return entries.map((entry, index) => ({
      ...entry,
      isThere: found[index]?.is_there ?? false,
      sequence: Number(rows[index]?.sequence),
      createdAt: new Date(rows[index]?.now ?? Date.now()),
    }));
  }

  async #enter(entries: readonly (NewEntry & { sequence: number; createdAt: Date })[]): Promise<void> {
    const digests = entries.flatMap(({ sha512 }) => sha512 ?? []);
    const rows = entries.map(({ event, ...row }) => row);
    await this.#eventLog.transactSql(this.#orm, async (session, append) => {
      // Holds the blobs against a collection that is about to remove one: whichever comes second sees what the first did.
      // In one order everywhere, so that two processes do not wait for one another.
      if (digests.length > 0)
        session.send(
          `update shacache.artifact set renewed_at = now() from (
             select sha512 from shacache.artifact where sha512 = any(?::text[]) order by sha512 for update) as held
           where artifact.sha512 = held.sha512`,
          [textArray(digests)],
        );
      const inserted = await session.execute<{ id: string }[]>(
        `insert into shacache.directory_entry
           (id, key, body, sha512, release_url, is_signed, created_at, sequence, created_by, project, is_recorded)
         select id, key, body, sha512, "releaseUrl", "isSigned", "createdAt", sequence, "createdBy", project, true
         from jsonb_to_recordset(?::jsonb) as entry (id text, key text, body text, sha512 text, "releaseUrl" text,
           "isSigned" boolean, "createdAt" timestamptz, sequence bigint, "createdBy" text, project text)
         order by id on conflict (id) do nothing returning id`,
        [JSON.stringify(rows)],
      );
      const isNew = new Set(inserted.map(({ id }) => id));
      await append(...entries.filter(({ id }) => isNew.has(id)).map(({ event }) => event));
    });
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
  read(key: string): Promise<string | null> {
    return this.#reads.submit("", key);
  }

  async #readAll(keys: readonly string[]): Promise<(string | null)[]> {
    const rows = await inSession(this.#orm, (session) =>
      session.execute<{ list: string | null }[]>(
        `select (
           select '[' || string_agg(body, ', ' order by sequence desc) || ']' from (
             select body, sequence, sum(octet_length(body)) over (order by sequence desc) as bytes from (
               select body, sequence from shacache.directory_entry where md5(key) = md5(asked.key) and key = asked.key
               order by sequence desc limit ${maxEntriesPerRead}) as newest) as summed
           where bytes <= ${maxBytesPerRead}) as list
         from unnest(?::text[]) with ordinality as asked (key, place) order by place`,
        [textArray(keys)],
      ),
    );
    return rows.map(({ list }) => list);
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
