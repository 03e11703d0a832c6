import { defineEntity, p } from "@mikro-orm/core";

/** Read only here: whoever changes something writes its record in the same transaction (common/audit.ts). */
export const AuditRecordEntity = defineEntity({
  name: "AuditRecord",
  schema: "event_log",
  tableName: "audit_record",
  properties: {
    /** A number, padded so that text sorts like it. */
    id: p.text().primary(),
    at: p.datetime(),
    actor: p.text(),
    actorKind: p.text(),
    tokenId: p.text().nullable(),
    /** Null for what the administrator was refused: it belongs to no project that is known. */
    project: p.text().nullable(),
    door: p.text(),
    action: p.text(),
    target: p.text().nullable(),
    result: p.text(),
    code: p.text().nullable(),
    requestId: p.text(),
  },
});
