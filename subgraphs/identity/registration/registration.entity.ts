import { defineEntity, p } from "@mikro-orm/core";

/** A secret that lets nodes register themselves, so many times and until then. The secret itself is not stored. */
export const RegistrationTokenEntity = defineEntity({
  name: "RegistrationToken",
  tableName: "registration_token",
  properties: {
    id: p.text().primary(),
    project: p.text(),
    /** SHA-256 of the secret, in hexadecimal. */
    secretDigest: p.text(),
    uses: p.integer(),
    createdBy: p.text(),
    createdAt: p.datetime(),
    expiresAt: p.datetime(),
    revokedAt: p.datetime().nullable(),
  },
});

/** One use of a token: it counts from when it begins, and the same title goes on with it if it did not end. */
export const RegistrationEntity = defineEntity({
  name: "Registration",
  tableName: "registration",
  properties: {
    tokenId: p.text().primary(),
    title: p.text().primary(),
    /** Null until the node has its certificate. */
    computerReference: p.text().nullable(),
  },
});
