import { Arg, Args, Ctx, FieldResolver, Query, Resolver, Root } from "type-graphql";
import { toPage } from "../../common/pagination.js";
import { PageArgs } from "../../common/pagination.type.js";
import { toArtifact } from "../artifact/artifact.resolver.js";
import { Artifact } from "../artifact/artifact.type.js";
import { toComputerConnection } from "../computer-artifact/computer-artifact.resolver.js";
import { ArtifactComputerConnection } from "../computer-artifact/computer-artifact.type.js";
import type { ShacacheContext } from "../context.js";
import type { CacheDriftService } from "./cache-drift.service.js";
import { CacheDrift, CacheDriftVariant } from "./cache-drift.type.js";

@Resolver(() => CacheDriftVariant)
export class CacheDriftResolver {
  readonly #service: CacheDriftService;

  constructor(service: CacheDriftService) {
    this.#service = service;
  }

  @Query(() => [CacheDrift], {
    description:
      "Where computers of one operating system and architecture run different bytes of a release: what each took last from the binary cache, or built and brought. Empty where all agree. Of the computers that the caller sees whose nodes use a credential at the Shacache.",
  })
  async cacheDrift(
    @Arg("release", () => String, { description: "The release's url." }) release: string,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<CacheDrift[]> {
    return this.#service.driftOf(caller, release);
  }

  @FieldResolver(() => Artifact, { nullable: true, description: "The archive; null if it is no longer stored here." })
  async artifact(@Root() { sha512 }: CacheDriftVariant, @Ctx() { loaders }: ShacacheContext): Promise<Artifact | null> {
    const row = await loaders.artifacts.load(sha512);
    return row && toArtifact(row);
  }

  @FieldResolver(() => ArtifactComputerConnection, {
    description: "The computers that run it, in the order of their references.",
  })
  async computers(
    @Root() variant: CacheDriftVariant,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<ArtifactComputerConnection> {
    const page = toPage(args);
    const rows = await this.#service.computersOf(caller, variant, page);
    return toComputerConnection(rows, page, (row) => row.computer);
  }
}
