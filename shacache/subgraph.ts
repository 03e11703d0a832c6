import { naturalKeyOf } from "../common/global-id.js";
import { buildSubgraph, type EntityReference } from "../common/subgraph.js";
import { ArtifactResolver, toArtifact } from "./artifact/artifact.resolver.js";
import { Artifact } from "./artifact/artifact.type.js";
import { createShacacheLoaders, type ShacacheContext, type ShacacheServices } from "./context.js";
import { DirectoryEntryResolver, toDirectoryEntry } from "./directory-entry/directory-entry.resolver.js";
import { DirectoryEntry } from "./directory-entry/directory-entry.type.js";

/** The Shacache's own small subgraph. Blobs are named by their content and belong to no project: whoever has a token reads them. */
export function buildShacacheSchema(services: ShacacheServices) {
  return buildSubgraph({
    name: "shacache",
    resolvers: [new ArtifactResolver(), new DirectoryEntryResolver()],
    entityTypes: [Artifact, DirectoryEntry],
    references: {
      Artifact: async ({ id }: EntityReference, { loaders }: ShacacheContext) => {
        const row = await loaders.artifacts.load(naturalKeyOf("Artifact", id));
        return row && toArtifact(row);
      },
      DirectoryEntry: async ({ id }: EntityReference, { loaders }: ShacacheContext) => {
        const row = await loaders.entries.load(naturalKeyOf("DirectoryEntry", id));
        return row && toDirectoryEntry(row);
      },
    },
    createLoaders: createShacacheLoaders(services),
  });
}
