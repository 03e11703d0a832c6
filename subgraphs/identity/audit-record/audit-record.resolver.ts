import { Args, Ctx, Query, Resolver } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import type { IdentityContext } from "../context.js";
import type { AuditRecordRow, AuditRecordService } from "./audit-record.service.js";
import {
  type AuditDoor,
  AuditRecord,
  AuditRecordConnection,
  type AuditRecordPage,
  AuditRecordsArgs,
  type AuditResult,
  type CallerKind,
} from "./audit-record.type.js";

export function toAuditRecord(row: AuditRecordRow): AuditRecord {
  return {
    ...row,
    id: toGlobalId("AuditRecord", row.id),
    actorKind: row.actorKind as CallerKind,
    tokenId: row.tokenId ?? null,
    project: row.project ?? null,
    door: row.door as AuditDoor,
    target: row.target ?? null,
    result: row.result as AuditResult,
    code: row.code ?? null,
  };
}

@Resolver(() => AuditRecord)
export class AuditRecordResolver {
  readonly #service: AuditRecordService;

  constructor(service: AuditRecordService) {
    this.#service = service;
  }

  @Query(() => AuditRecordConnection, {
    nullable: true,
    description:
      "The audit trail, oldest first; `last` reads from the newest. The project's for its owners, all for the administrator, empty for others.",
  })
  async auditRecords(
    @Args(() => AuditRecordsArgs) { filter, ...args }: AuditRecordsArgs,
    @Ctx() { caller }: IdentityContext,
  ): Promise<AuditRecordPage> {
    const page = toPage(args);
    const rows = await this.#service.auditRecords(caller, filter ?? {}, page);
    return toConnection(rows, page, (row) => row.id, toAuditRecord);
  }
}
