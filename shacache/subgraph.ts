import { naturalKeyOf } from "../common/global-id.js";
import { buildSubgraph, type EntityReference } from "../common/subgraph.js";
import { ArtifactResolver, toArtifact } from "./artifact/artifact.resolver.js";
import { Artifact } from "./artifact/artifact.type.js";
import { CacheDriftResolver } from "./cache-drift/cache-drift.resolver.js";
import { CachePolicyResolver } from "./cache-policy/cache-policy.resolver.js";
import { Computer } from "./computer-artifact/computer.stub.js";
import { ArtifactComputerResolver, ComputerArtifactResolver } from "./computer-artifact/computer-artifact.resolver.js";
import { createShacacheLoaders, type ShacacheContext, type ShacacheServices } from "./context.js";
import { DirectoryEntryResolver, toDirectoryEntry } from "./directory-entry/directory-entry.resolver.js";
import { DirectoryEntry } from "./directory-entry/directory-entry.type.js";
import { toSoftwareRelease } from "./directory-entry/software-release.stub.js";
import { ReindexResolver } from "./reindex/reindex.resolver.js";
import { RetentionResolver } from "./retention/retention.resolver.js";
import { CacheStatisticsResolver } from "./statistics/cache-statistics.resolver.js";
import {
  TrustedCertificateResolver,
  toTrustedCertificate,
} from "./trusted-certificate/trusted-certificate.resolver.js";
import { TrustedCertificate } from "./trusted-certificate/trusted-certificate.type.js";

/** The Shacache's own small subgraph. Blobs are named by their content: whoever has a token reads one whose name it knows. */
export function buildShacacheSchema(
  services: ShacacheServices,
  { scrubNow, reindexNow }: { scrubNow: () => void; reindexNow: () => void },
) {
  return buildSubgraph({
    name: "shacache",
    resolvers: [
      new ArtifactResolver(services.artifacts),
      new DirectoryEntryResolver(services.entries),
      new CachePolicyResolver(services.policies),
      new TrustedCertificateResolver(services.certificates),
      new RetentionResolver(services.retention, services.entries),
      new CacheStatisticsResolver(services.statistics, scrubNow),
      new ReindexResolver(services.reindex, reindexNow),
      new ComputerArtifactResolver(),
      new ArtifactComputerResolver(),
      new CacheDriftResolver(services.drift),
    ],
    entityTypes: [Artifact, DirectoryEntry, TrustedCertificate, Computer],
    references: {
      Artifact: async ({ id }: EntityReference, { loaders }: ShacacheContext) => {
        const row = await loaders.artifacts.load(naturalKeyOf("Artifact", id));
        return row && toArtifact(row);
      },
      DirectoryEntry: async ({ id }: EntityReference, { loaders }: ShacacheContext) => {
        const row = await loaders.entries.load(naturalKeyOf("DirectoryEntry", id));
        return row && toDirectoryEntry(row);
      },
      SoftwareRelease: ({ id }: EntityReference) => toSoftwareRelease(naturalKeyOf("SoftwareRelease", id)),
      TrustedCertificate: async ({ id }: EntityReference, { loaders }: ShacacheContext) => {
        const row = await loaders.trustedCertificates.load(naturalKeyOf("TrustedCertificate", id));
        return row && toTrustedCertificate(row);
      },
      Computer: ({ id }: EntityReference) => ({ id }),
    },
    createLoaders: createShacacheLoaders(services),
  });
}
