import { defineEntity, p } from "@mikro-orm/core";
import { releaseStates } from "./release.state.js";

export const ReleaseEntity = defineEntity({
  name: "SoftwareRelease",
  tableName: "release",
  properties: {
    url: p.text().primary(),
    productKey: p.text(),
    project: p.text(),
    version: p.text().nullable(),
    state: p.enum(releaseStates),
    publishedAt: p.datetime(),
    /** Grows with each publication, so that the newest comes first. */
    sequence: p.bigint("number"),
  },
});
