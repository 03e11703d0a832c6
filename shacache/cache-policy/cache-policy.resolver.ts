import { Arg, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { projectOf } from "../../common/identity.js";
import { toPayload } from "../../common/user-error.type.js";
import type { ShacacheContext } from "../context.js";
import type { CachePolicyRow, CachePolicyService, UntrustedEntriesRule } from "./cache-policy.service.js";
import { CachePolicy, SetCachePolicyInput, SetCachePolicyPayload } from "./cache-policy.type.js";

export function toCachePolicy(row: CachePolicyRow): CachePolicy {
  return {
    project: row.project,
    untrustedEntries: row.untrustedEntries as UntrustedEntriesRule,
    quotaBytes: row.quotaBytes ?? null,
    maxBlobBytes: row.maxBlobBytes ?? null,
    uploadsPerMinute: row.uploadsPerMinute ?? null,
    maxAgeDays: row.maxAgeDays ?? null,
    maxUnreadDays: row.maxUnreadDays ?? null,
    newestPerKey: row.newestPerKey ?? null,
  };
}

@Resolver(() => CachePolicy)
export class CachePolicyResolver {
  readonly #service: CachePolicyService;

  constructor(service: CachePolicyService) {
    this.#service = service;
  }

  @Query(() => CachePolicy, {
    nullable: true,
    description: "What a project decided about its part of the Shacache, for its members; null for others.",
  })
  async cachePolicy(
    @Arg("project", () => String, {
      nullable: true,
      description: "Default: the caller's, the administrator's is `main`.",
    })
    project: string | null,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<CachePolicy | null> {
    const row = await this.#service.policy(caller, project ?? projectOf(caller));
    return row && toCachePolicy(row);
  }

  @Mutation(() => SetCachePolicyPayload, {
    description:
      "Changes limits and rules of a project. Owners only. User errors: NOT_FOUND, FORBIDDEN, BAD_USER_INPUT.",
  })
  async setCachePolicy(
    @Arg("input", () => SetCachePolicyInput, { description: "What to change." }) input: SetCachePolicyInput,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<SetCachePolicyPayload> {
    return toPayload(async () => ({ cachePolicy: toCachePolicy(await this.#service.setPolicy(caller, input)) }));
  }
}
