import { defineEntity, p } from "@mikro-orm/core";

export const PersonEntity = defineEntity({
  name: "Person",
  tableName: "person",
  properties: { subject: p.text().primary(), displayName: p.text(), createdAt: p.datetime() },
});
