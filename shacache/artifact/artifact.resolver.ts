import { Arg, Args, Ctx, FieldResolver, Query, Resolver, Root } from "type-graphql";
import { toGlobalId } from "../../common/global-id.js";
import { maxPageSize, toConnection, toPage } from "../../common/pagination.js";
import { PageArgs } from "../../common/pagination.type.js";
import type { ShacacheContext } from "../context.js";
import { toDirectoryEntry } from "../directory-entry/directory-entry.resolver.js";
import { DirectoryEntryConnection, type DirectoryEntryPage } from "../directory-entry/directory-entry.type.js";
import { SoftwareRelease, toSoftwareRelease } from "../directory-entry/software-release.stub.js";
import type { ArtifactRow, ArtifactService } from "./artifact.service.js";
import { Artifact, ArtifactConnection, ArtifactFilter, type ArtifactPage } from "./artifact.type.js";

export function toArtifact(row: ArtifactRow): Artifact {
  return {
    id: toGlobalId("Artifact", row.sha512),
    sha512: row.sha512,
    sizeBytes: row.sizeBytes,
    createdAt: row.createdAt,
    uploadedBy: row.uploadedBy,
    project: row.project,
    renewedAt: row.renewedAt,
    lastReadAt: row.lastReadAt ?? null,
    readCount: row.readCount,
    isPinned: row.isPinned,
  };
}

@Resolver(() => Artifact)
export class ArtifactResolver {
  readonly #artifacts: ArtifactService;

  constructor(artifacts: ArtifactService) {
    this.#artifacts = artifacts;
  }

  @Query(() => Artifact, { nullable: true, description: "One blob of the Shacache; null if it is not stored here." })
  async artifact(
    @Arg("sha512", () => String, { description: "128 hexadecimal digits." }) sha512: string,
    @Ctx() { loaders }: ShacacheContext,
  ): Promise<Artifact | null> {
    const row = await loaders.artifacts.load(sha512.toLowerCase());
    return row && toArtifact(row);
  }

  @Query(() => ArtifactConnection, {
    description: "The blobs of the caller's project, or all for the administrator, in the order of their digests.",
  })
  async artifacts(
    @Args(() => PageArgs) args: PageArgs,
    @Arg("filter", () => ArtifactFilter, { nullable: true, description: "Which of them; default: all." })
    filter: ArtifactFilter | null,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<ArtifactPage> {
    const page = toPage(args);
    const rows = await this.#artifacts.artifacts(caller, filter ?? {}, page);
    return toConnection(rows, page, (row) => row.sha512, toArtifact);
  }

  @FieldResolver(() => [SoftwareRelease], {
    description: "The releases that its directory entries say it is a build of, at most 100.",
  })
  async releases(@Root() artifact: Artifact, @Ctx() { loaders }: ShacacheContext): Promise<SoftwareRelease[]> {
    const page = toPage({ first: maxPageSize });
    const rows = await loaders.entryPages(page).load(artifact.sha512);
    const urls = new Set(rows.flatMap(({ releaseUrl }) => (releaseUrl == null ? [] : [releaseUrl])));
    return [...urls].map(toSoftwareRelease);
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
