import { defineEntity, p } from "@mikro-orm/core";

/** A blob that is whole and durable in the blob store. What is not here does not exist for readers. */
export const ArtifactEntity = defineEntity({
  name: "Artifact",
  tableName: "artifact",
  properties: {
    sha512: p.text().primary(),
    sizeBytes: p.bigint("number"),
    /** The store's name for the bytes. */
    location: p.text(),
    createdAt: p.datetime(),
    /** The subject of the token that uploaded it first; `anonymous` where open writes are on. */
    uploadedBy: p.text(),
    /** Whose quota it counts for. */
    project: p.text(),
    /** When it was last stored, or entered into the directory: what age counts from. */
    renewedAt: p.datetime(),
    /** Written from time to time for many reads together, so it may be behind by a minute. */
    lastReadAt: p.datetime().nullable(),
    readCount: p.bigint("number"),
    isPinned: p.boolean(),
  },
});
