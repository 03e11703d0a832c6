import { defineEntity, p } from "@mikro-orm/core";

export const certificateKinds = ["node", "instance"] as const;

/** A client certificate that was issued. */
export const CertificateEntity = defineEntity({
  name: "Certificate",
  tableName: "certificate",
  properties: {
    /** `certificate:` and the serial number: what the revocation list knows it by. */
    id: p.text().primary(),
    kind: p.enum(certificateKinds),
    subject: p.text(),
    project: p.text(),
    issuedAt: p.datetime(),
    expiresAt: p.datetime(),
    revokedAt: p.datetime().nullable(),
    /** An instance's certificate and key, sealed: its node fetches them again and again. A computer's key is not kept. */
    sealedPair: p.text().nullable(),
  },
});
