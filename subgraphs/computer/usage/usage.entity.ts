import { defineEntity, p } from "@mikro-orm/core";

/** What a node said that its instances consumed, as it said it. */
export const UsageEntity = defineEntity({
  name: "UsageReport",
  tableName: "usage_report",
  properties: {
    /** Ids sort by time, so that a page of reports is in their order. */
    id: p.text().primary(),
    computerReference: p.text(),
    project: p.text(),
    at: p.datetime(),
    tioxml: p.text(),
  },
});
