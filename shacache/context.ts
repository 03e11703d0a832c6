import DataLoader from "dataloader";
import type { Caller } from "../common/identity.js";
import { loadersPerPage } from "../common/page-per-parent.js";
import type { Page } from "../common/pagination.js";
import type { SubgraphContext } from "../common/subgraph.js";
import type { ArtifactRow, ArtifactService } from "./artifact/artifact.service.js";
import type { Scrub } from "./artifact/scrub.js";
import type { BlobStore } from "./blob-store.js";
import type { CacheDriftService } from "./cache-drift/cache-drift.service.js";
import type { CachePolicyService } from "./cache-policy/cache-policy.service.js";
import type { ComputerArtifactRow, ComputerArtifactService } from "./computer-artifact/computer-artifact.service.js";
import type { TakenArtifacts } from "./computer-artifact/taken-artifacts.js";
import type { DirectoryEntryRow, DirectoryEntryService } from "./directory-entry/directory-entry.service.js";
import type { ReindexService } from "./reindex/reindex.service.js";
import type { RetentionService } from "./retention/retention.service.js";
import type { CacheStatisticsService } from "./statistics/cache-statistics.service.js";
import type { ReadCounts } from "./statistics/read-counts.js";
import type {
  TrustedCertificateRow,
  TrustedCertificateService,
} from "./trusted-certificate/trusted-certificate.service.js";
import type { BlobPullService } from "./upstream/blob-pull.service.js";
import type { DirectoryPullService } from "./upstream/directory-pull.service.js";

export interface ShacacheLoaders {
  artifacts: DataLoader<string, ArtifactRow | null>;
  entries: DataLoader<string, DirectoryEntryRow | null>;
  entryPages: (page: Page) => DataLoader<string, DirectoryEntryRow[]>;
  trustedCertificates: DataLoader<string, TrustedCertificateRow | null>;
  artifactsOfComputers: (page: Page) => DataLoader<string, ComputerArtifactRow[]>;
  computersOfArtifacts: (page: Page) => DataLoader<string, ComputerArtifactRow[]>;
}

export type ShacacheContext = SubgraphContext<ShacacheLoaders>;

export interface ShacacheServices {
  artifacts: ArtifactService;
  entries: DirectoryEntryService;
  policies: CachePolicyService;
  certificates: TrustedCertificateService;
  retention: RetentionService;
  statistics: CacheStatisticsService;
  reads: ReadCounts;
  scrub: Scrub;
  reindex: ReindexService;
  blobs: BlobStore;
  taken: TakenArtifacts;
  computerArtifacts: ComputerArtifactService;
  drift: CacheDriftService;
  blobPulls: BlobPullService;
  directoryPulls: DirectoryPullService;
}

export function createShacacheLoaders({
  artifacts,
  entries,
  certificates,
  computerArtifacts,
}: Pick<ShacacheServices, "artifacts" | "entries" | "certificates" | "computerArtifacts">) {
  return (caller: Caller): ShacacheLoaders => ({
    artifacts: new DataLoader((digests) => artifacts.artifactsBySha512(digests)),
    entries: new DataLoader((ids) => entries.entriesById(ids)),
    entryPages: loadersPerPage((page, digests) => entries.entriesOfArtifacts(digests, page)),
    trustedCertificates: new DataLoader((ids) => certificates.trustedCertificatesById(caller, ids)),
    artifactsOfComputers: loadersPerPage((page, references) => computerArtifacts.ofComputers(caller, references, page)),
    computersOfArtifacts: loadersPerPage((page, digests) => computerArtifacts.ofArtifacts(caller, digests, page)),
  });
}
