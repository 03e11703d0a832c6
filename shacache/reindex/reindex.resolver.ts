import { Ctx, Mutation, Query, Resolver } from "type-graphql";
import { toPayload } from "../../common/user-error.type.js";
import type { ShacacheContext } from "../context.js";
import type { ReindexService } from "./reindex.service.js";
import { Reindex, ReindexArtifactsPayload } from "./reindex.type.js";

@Resolver()
export class ReindexResolver {
  readonly #service: ReindexService;
  readonly #reindexNow: () => void;

  constructor(service: ReindexService, reindexNow: () => void) {
    this.#service = service;
    this.#reindexNow = reindexNow;
  }

  @Query(() => Reindex, {
    nullable: true,
    description: "How the making anew of the Shacache's index stands. Administrator only; null for others.",
  })
  async reindex(@Ctx() { caller }: ShacacheContext): Promise<Reindex | null> {
    return this.#service.state(caller);
  }

  @Mutation(() => ReindexArtifactsPayload, {
    description:
      "Gives the index back what the store has and it does not name: blobs, each read and compared, and directory entries. For when the database was lost. What the index has stays as it is; one under way is not begun again. Administrator only. User errors: FORBIDDEN.",
  })
  async reindexArtifacts(@Ctx() { caller }: ShacacheContext): Promise<ReindexArtifactsPayload> {
    return toPayload(async () => {
      const reindex = await this.#service.request(caller);
      this.#reindexNow();
      return { reindex };
    });
  }
}
