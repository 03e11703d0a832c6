import { defineEntity, p } from "@mikro-orm/core";

/** A certificate whose key a project's builders sign directory entries with. */
export const TrustedCertificateEntity = defineEntity({
  name: "TrustedCertificate",
  tableName: "trusted_certificate",
  properties: {
    /** `<project> <SHA-256 of the certificate>`. */
    id: p.text().primary(),
    project: p.text(),
    title: p.text(),
    pem: p.text(),
    createdAt: p.datetime(),
    createdBy: p.text(),
    /** Null while it is trusted. */
    distrustedAt: p.datetime().nullable(),
  },
});
