import { defineEntity, p } from "@mikro-orm/core";
import { healthStates } from "./health.state.js";

/** A projection of the event log, up to `appliedPosition`; readers fold what came after on top. */
export const PartitionHealthEntity = defineEntity({
  name: "PartitionHealth",
  tableName: "partition_health",
  properties: {
    key: p.text().primary(),
    project: p.text(),
    owner: p.text().nullable(),
    instanceReference: p.text().nullable(),
    health: p.enum(healthStates),
    since: p.datetime(),
    message: p.text().nullable(),
    appliedPosition: p.bigint("number"),
  },
});

/** The last known liveness of a computer, and the project that it belongs to. */
export const ComputerLivenessEntity = defineEntity({
  name: "ComputerLiveness",
  tableName: "computer_liveness",
  properties: {
    reference: p.text().primary(),
    project: p.text(),
    liveness: p.text(),
    appliedPosition: p.bigint("number"),
  },
});
