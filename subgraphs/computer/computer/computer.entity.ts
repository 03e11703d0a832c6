import { defineEntity, p } from "@mikro-orm/core";
import { livenessStates, scopes } from "./computer.state.js";

export const ComputerEntity = defineEntity({
  name: "Computer",
  tableName: "computer",
  properties: {
    reference: p.text().primary(),
    project: p.text(),
    title: p.text(),
    scope: p.enum(scopes),
    /** What its owner says of it for allocation filters; see `computerAttributes`. */
    attributes: p.json<Record<string, string>>(),
    liveness: p.enum(livenessStates),
    livenessSince: p.datetime(),
    /** Written at most once a minute, so it may lag behind by that much. */
    lastContactAt: p.datetime().nullable(),
    createdAt: p.datetime(),
    /** Raised with anything that the node reads, so bytes cached for a revision are good while it stands. */
    revision: p.bigint("number"),
    formattedAt: p.datetime().nullable(),
    slaposVersion: p.text().nullable(),
    pythonVersion: p.text().nullable(),
    osType: p.text().nullable(),
  },
});
