import { defineEntity, p } from "@mikro-orm/core";

/** What a project's owners decided about their part of the cache; null is no limit, or no rule. */
export const CachePolicyEntity = defineEntity({
  name: "CachePolicy",
  tableName: "cache_policy",
  properties: {
    project: p.text().primary(),
    untrustedEntries: p.text(),
    quotaBytes: p.bigint("number").nullable(),
    maxBlobBytes: p.bigint("number").nullable(),
    uploadsPerMinute: p.integer().nullable(),
    maxAgeDays: p.integer().nullable(),
    maxUnreadDays: p.integer().nullable(),
    newestPerKey: p.integer().nullable(),
  },
});
