import { defineEntity, p } from "@mikro-orm/core";
import { roles } from "../../../common/identity.js";

export const tokenKinds = ["person", "node", "instance"] as const;

/** What is known about a token that was issued. The token itself is never stored. */
export const TokenEntity = defineEntity({
  name: "Token",
  tableName: "token",
  properties: {
    id: p.text().primary(),
    kind: p.enum(tokenKinds),
    subject: p.text(),
    project: p.text(),
    role: p.enum(roles).nullable(),
    issuedAt: p.datetime(),
    expiresAt: p.datetime(),
    revokedAt: p.datetime().nullable(),
  },
});
