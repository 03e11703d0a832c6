import { createHash } from "node:crypto";
import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../common/errors.js";
import type { EventLog } from "../../common/event-log.js";
import { type Caller, mainProject } from "../../common/identity.js";
import { pagePerParent } from "../../common/page-per-parent.js";
import type { Page } from "../../common/pagination.js";
import { anonymous, sha512Pattern } from "../artifact/artifact.service.js";
import { DirectoryEntryEntity } from "./directory-entry.entity.js";

export type DirectoryEntryRow = InferEntity<typeof DirectoryEntryEntity>;

/** Each entry costs the reader a process that verifies its signature, so a key answers with its newest. */
const maxEntriesPerRead = 100;
const maxKeyLength = 8_192;

export class DirectoryEntryService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Appends an entry; the identical one again is the same entry. BAD_USER_INPUT when the body is not a pair of texts. */
  async put(caller: Caller | null, key: string, body: string): Promise<void> {
    const project = caller && caller.kind !== "administrator" ? caller.project : mainProject;
    await this.#append(key, body, caller?.subject ?? anonymous, project);
  }

  /** Takes over what nobody put here: an entry of an upstream directory. */
  keep(key: string, body: string, source: string): Promise<void> {
    return this.#append(key, body, source, mainProject);
  }

  async #append(key: string, body: string, createdBy: string, project: string): Promise<void> {
    if (key.length === 0 || key.length > maxKeyLength)
      throw new AppError("BAD_USER_INPUT", `A key has 1 to ${maxKeyLength} characters.`);
    const [metadata, signature] = parsePair(body);
    const id = `${digest("sha512", body)} ${digest("sha256", key)}`;
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const inserted = await em.execute<{ id: string }[]>(
        `insert into shacache.directory_entry (id, key, body, sha512, is_signed, created_at, sequence, created_by)
         values (?, ?, ?, ?, ?, now(), nextval('shacache.entry_number'), ?) on conflict (id) do nothing returning id`,
        [id, key, body, sha512Of(metadata), signature.trim() !== "", createdBy],
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
  }

  /** The stored bodies joined as they came, newest first; null for a key that was never put. */
  async read(key: string): Promise<string | null> {
    const rows = await this.#orm.em
      .fork()
      .execute<{ body: string }[]>(
        `select body from shacache.directory_entry where md5(key) = md5(?) and key = ? order by sequence desc limit ${maxEntriesPerRead}`,
        [key, key],
      );
    return rows.length === 0 ? null : `[${rows.map((row) => row.body).join(", ")}]`;
  }

  /** One page of entries for each of the blobs. */
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

/** The outer shape is strict; what the texts hold is the readers' business (shacache-protocol.md part 2, 5). */
export function parsePair(body: string): [metadata: string, signature: string] {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    throw new AppError("BAD_USER_INPUT", `The body is not JSON: ${(error as Error).message}`);
  }
  if (Array.isArray(value) && value.length === 2 && typeof value[0] === "string" && typeof value[1] === "string") {
    return [value[0], value[1]];
  }
  throw new AppError("BAD_USER_INPUT", "The body is not a JSON array of two texts: metadata and signature.");
}

const digest = (algorithm: string, text: string) => createHash(algorithm).update(text).digest("hex");

function sha512Of(metadata: string): string | null {
  try {
    const { sha512 } = JSON.parse(metadata) as { sha512?: unknown };
    return typeof sha512 === "string" && sha512Pattern.test(sha512) ? sha512 : null;
  } catch {
    return null;
  }
}
