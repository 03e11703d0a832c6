import { Ctx, FieldResolver, Resolver, Root } from "type-graphql";
import { toGlobalId } from "../../common/global-id.js";
import { toArtifact } from "../artifact/artifact.resolver.js";
import { Artifact } from "../artifact/artifact.type.js";
import type { ShacacheContext } from "../context.js";
import { type DirectoryEntryRow, parsePair } from "./directory-entry.service.js";
import { DirectoryEntry } from "./directory-entry.type.js";

export function toDirectoryEntry(row: DirectoryEntryRow): DirectoryEntry {
  const [metadata] = parsePair(row.body);
  return {
    id: toGlobalId("DirectoryEntry", row.id),
    key: row.key,
    metadata,
    isSigned: row.isSigned,
    createdAt: row.createdAt,
    sha512: row.sha512 ?? null,
  };
}

@Resolver(() => DirectoryEntry)
export class DirectoryEntryResolver {
  @FieldResolver(() => Artifact, {
    nullable: true,
    description: "The blob that it points to; null if it is not stored here.",
  })
  async artifact(@Root() entry: DirectoryEntry, @Ctx() { loaders }: ShacacheContext): Promise<Artifact | null> {
    if (entry.sha512 === null) return null;
    const row = await loaders.artifacts.load(entry.sha512);
    return row && toArtifact(row);
  }
}
