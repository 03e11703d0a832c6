import { defineEntity, p } from "@mikro-orm/core";

export const bangScopes = ["INSTANCE", "COMPUTER"] as const;

export const BangEntity = defineEntity({
  name: "Bang",
  tableName: "bang",
  properties: {
    id: p.text().primary(),
    scope: p.enum(bangScopes),
    project: p.text(),
    computerReference: p.text(),
    partitionKey: p.text().nullable(),
    instanceReference: p.text().nullable(),
    /** Whose instance was banged; a user sees the bangs of its own. */
    owner: p.text().nullable(),
    message: p.text(),
    actor: p.text(),
    at: p.datetime(),
    sequence: p.bigint("number"),
  },
});
