import { defineEntity, p } from "@mikro-orm/core";
import type { Reason } from "./allocate.js";
import { allocationStates, reportedStates, requestedStates } from "./instance.state.js";

export const InstanceEntity = defineEntity({
  name: "SoftwareInstance",
  tableName: "instance",
  properties: {
    /** `SOFTINST-n` */
    reference: p.text().primary(),
    /** The n of the reference: the order in which instances were first requested. */
    number: p.bigint("number"),
    project: p.text(),
    title: p.text(),
    /** The root of its tree; its own reference when it is the root. */
    rootReference: p.text(),
    /** The instance that requested it last; null for a root. */
    parentReference: p.text().nullable(),
    /** The subject of the token that requested the root. */
    owner: p.text(),
    releaseUrl: p.text(),
    softwareType: p.text(),
    /** It has no partition of its own: `partitionKey` is its host's. */
    isShared: p.boolean(),
    parameters: p.json<Record<string, unknown>>(),
    filter: p.json<Record<string, string>>(),
    requestedState: p.enum(requestedStates),
    allocation: p.enum(allocationStates),
    pendingReasons: p.json<Reason[]>(),
    partitionKey: p.text().nullable(),
    reportedState: p.enum(reportedStates),
    connectionParameters: p.json<Record<string, string>>(),
    createdAt: p.datetime(),
    /** Of a shared instance: raised when its host has to serve it differently. */
    revision: p.bigint("number"),
  },
});
