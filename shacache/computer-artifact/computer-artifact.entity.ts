import { defineEntity, p } from "@mikro-orm/core";

/** That a computer took a blob, or brought it. Kept when the blob is gone; written behind the reads, so some seconds late. */
export const ComputerArtifactEntity = defineEntity({
  name: "ComputerArtifact",
  tableName: "computer_artifact",
  properties: {
    computer: p.text().primary(),
    sha512: p.text().primary(),
    /** The computer's at that time: who may read all of it sees this. */
    project: p.text(),
    firstAt: p.datetime(),
    lastAt: p.datetime(),
    downloads: p.integer(),
    uploads: p.integer(),
    /** `last_at`, computer and digest as one text, whose order is that of the pages. */
    moment: p.text(),
  },
});
