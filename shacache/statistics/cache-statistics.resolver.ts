import { Arg, Ctx, Int, Mutation, Query, Resolver } from "type-graphql";
import { AppError } from "../../common/errors.js";
import { toPayload } from "../../common/user-error.type.js";
import type { ShacacheContext } from "../context.js";
import type { CacheStatisticsService } from "./cache-statistics.service.js";
import { CacheStatistics, ScrubArtifactsPayload } from "./cache-statistics.type.js";

const maxDays = 366;

@Resolver()
export class CacheStatisticsResolver {
  readonly #service: CacheStatisticsService;
  readonly #scrubNow: () => void;

  constructor(service: CacheStatisticsService, scrubNow: () => void) {
    this.#service = service;
    this.#scrubNow = scrubNow;
  }

  @Query(() => CacheStatistics, {
    nullable: true,
    description:
      "What the Shacache holds, and how it is read; null for nodes, instances, and strangers of the project.",
  })
  async cacheStatistics(
    @Arg("days", () => Int, {
      nullable: true,
      defaultValue: 7,
      description: "Over how many days reads are counted, 1 to 366.",
    })
    days: number,
    @Arg("project", () => String, {
      nullable: true,
      description: "Whose blobs are counted. Default: the caller's project's; the administrator's is all together.",
    })
    project: string | null,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<CacheStatistics | null> {
    if (days < 1 || days > maxDays)
      throw new AppError("BAD_USER_INPUT", `\`days\` takes 1 to ${maxDays}, not ${days}.`);
    const totals = await this.#service.totals(caller, days, project ?? null);
    if (totals === null) return null;
    const reads = totals.hits + totals.misses;
    return { ...totals, hitRate: reads === 0 ? null : totals.hits / reads };
  }

  @Mutation(() => ScrubArtifactsPayload, {
    description:
      "Begins a pass of the scrub now, which else is each day's. Administrator only. User errors: FORBIDDEN.",
  })
  async scrubArtifacts(@Ctx() { caller }: ShacacheContext): Promise<ScrubArtifactsPayload> {
    return toPayload(async () => {
      if (caller.kind !== "administrator") throw new AppError("FORBIDDEN", "Only the administrator begins a scrub.");
      this.#scrubNow();
      return { isRunning: true };
    });
  }
}
