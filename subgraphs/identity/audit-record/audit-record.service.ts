import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { type Caller, mayOwn } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { AuditRecordEntity } from "./audit-record.entity.js";

export type AuditRecordRow = InferEntity<typeof AuditRecordEntity>;

export interface AuditFilter {
  project?: string | null;
  actor?: string | null;
  door?: string | null;
  action?: string | null;
  target?: string | null;
  result?: string | null;
  since?: Date | null;
  until?: Date | null;
}

export class AuditRecordService {
  readonly #orm: MikroORM;

  constructor(orm: MikroORM) {
    this.#orm = orm;
  }

  /** Owners see the records of their project, the administrator all, nobody else any. */
  async auditRecords(caller: Caller, filter: AuditFilter, page: Page): Promise<AuditRecordRow[]> {
    const { where, options } = keyset("id", page);
    return this.#orm.em.fork().find(AuditRecordEntity, { $and: [where, visibleTo(caller), toWhere(filter)] }, options);
  }

  async auditRecordsById(caller: Caller, ids: readonly string[]): Promise<(AuditRecordRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(AuditRecordEntity, { $and: [{ id: { $in: [...ids] } }, visibleTo(caller)] });
    return ids.map((id) => rows.find((row) => row.id === id) ?? null);
  }
}

function visibleTo(caller: Caller) {
  if (caller.kind === "administrator") return {};
  return mayOwn(caller, caller.project) ? { project: caller.project } : { id: { $in: [] as string[] } };
}

function toWhere({ since, until, ...equal }: AuditFilter) {
  const at = { ...(since ? { $gte: since } : {}), ...(until ? { $lt: until } : {}) };
  const given = Object.entries(equal).filter(([, value]) => value != null);
  return { ...Object.fromEntries(given), ...(since || until ? { at } : {}) };
}
