import { defineEntity, p } from "@mikro-orm/core";

export const DirectoryEntryEntity = defineEntity({
  name: "DirectoryEntry",
  tableName: "directory_entry",
  properties: {
    /** `<sha512 of the body> <sha256 of the key>`: an identical PUT is the same entry, and a long key still fits an index. */
    id: p.text().primary(),
    /** The raw request target after the prefix, byte for byte. */
    key: p.text(),
    /** The PUT's body as it came; it goes out again unchanged, because signatures are over its text. */
    body: p.text(),
    /** The blob that the metadata names, null where the metadata is not what the client would read. */
    sha512: p.text().nullable(),
    isSigned: p.boolean(),
    createdAt: p.datetime(),
    sequence: p.bigint("number"),
    createdBy: p.text(),
    /** Whose certificates sign it, and whose policy it falls under. */
    project: p.text(),
    /** The release that the metadata says the blob is a build of. */
    releaseUrl: p.text().nullable(),
    isPinned: p.boolean(),
    /** The store has a record of it. Those of older versions get theirs after the start. */
    isRecorded: p.boolean(),
  },
});
