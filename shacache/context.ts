import DataLoader from "dataloader";
import { loadersPerPage } from "../common/page-per-parent.js";
import type { Page } from "../common/pagination.js";
import type { SubgraphContext } from "../common/subgraph.js";
import type { ArtifactRow, ArtifactService } from "./artifact/artifact.service.js";
import type { Scrub } from "./artifact/scrub.js";
import type { BlobStore } from "./blob-store.js";
import type { DirectoryEntryRow, DirectoryEntryService } from "./directory-entry/directory-entry.service.js";
import type { BlobPullService } from "./upstream/blob-pull.service.js";
import type { DirectoryPullService } from "./upstream/directory-pull.service.js";

export interface ShacacheLoaders {
  artifacts: DataLoader<string, ArtifactRow | null>;
  entries: DataLoader<string, DirectoryEntryRow | null>;
  entryPages: (page: Page) => DataLoader<string, DirectoryEntryRow[]>;
}

export type ShacacheContext = SubgraphContext<ShacacheLoaders>;

export interface ShacacheServices {
  artifacts: ArtifactService;
  entries: DirectoryEntryService;
  scrub: Scrub;
  blobs: BlobStore;
  blobPulls: BlobPullService;
  directoryPulls: DirectoryPullService;
}

export function createShacacheLoaders({ artifacts, entries }: Pick<ShacacheServices, "artifacts" | "entries">) {
  return (): ShacacheLoaders => ({
    artifacts: new DataLoader((digests) => artifacts.artifactsBySha512(digests)),
    entries: new DataLoader((ids) => entries.entriesById(ids)),
    entryPages: loadersPerPage((page, digests) => entries.entriesOfArtifacts(digests, page)),
  });
}
