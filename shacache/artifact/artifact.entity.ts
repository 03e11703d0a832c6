import { defineEntity, p } from "@mikro-orm/core";

/** A blob that is whole and durable in the blob store. The store is the truth; this is its index. */
export const ArtifactEntity = defineEntity({
  name: "Artifact",
  tableName: "artifact",
  properties: {
    sha512: p.text().primary(),
    sizeBytes: p.bigint("number"),
    createdAt: p.datetime(),
    /** The subject of the token that uploaded it first; `anonymous` where open writes are on. */
    uploadedBy: p.text(),
  },
});
