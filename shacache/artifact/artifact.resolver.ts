import { Arg, Args, Ctx, FieldResolver, Query, Resolver, Root } from "type-graphql";
import { toGlobalId } from "../../common/global-id.js";
import { toConnection, toPage } from "../../common/pagination.js";
import { PageArgs } from "../../common/pagination.type.js";
import type { ShacacheContext } from "../context.js";
import { toDirectoryEntry } from "../directory-entry/directory-entry.resolver.js";
import { DirectoryEntryConnection, type DirectoryEntryPage } from "../directory-entry/directory-entry.type.js";
import type { ArtifactRow } from "./artifact.service.js";
import { Artifact } from "./artifact.type.js";

export function toArtifact(row: ArtifactRow): Artifact {
  return {
    id: toGlobalId("Artifact", row.sha512),
    sha512: row.sha512,
    sizeBytes: row.sizeBytes,
    createdAt: row.createdAt,
  };
}

@Resolver(() => Artifact)
export class ArtifactResolver {
  @Query(() => Artifact, { nullable: true, description: "One blob of the Shacache; null if it is not stored here." })
  async artifact(
    @Arg("sha512", () => String, { description: "128 hexadecimal digits." }) sha512: string,
    @Ctx() { loaders }: ShacacheContext,
  ): Promise<Artifact | null> {
    const row = await loaders.artifacts.load(sha512.toLowerCase());
    return row && toArtifact(row);
  }

  @FieldResolver(() => DirectoryEntryConnection, { description: "The directory entries that point to it." })
  async entries(
    @Root() artifact: Artifact,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: ShacacheContext,
  ): Promise<DirectoryEntryPage> {
    const page = toPage(args);
    const rows = await loaders.entryPages(page).load(artifact.sha512);
    return toConnection(rows, page, (row) => row.id, toDirectoryEntry);
  }
}
