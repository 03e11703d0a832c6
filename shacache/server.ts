import path from "node:path";
import type { Config } from "../common/config.js";
import { openDatabase, pingDatabase } from "../common/database.js";
import type { SubgraphResources, SubgraphService } from "../common/subgraph-service.js";
import { ArtifactEntity } from "./artifact/artifact.entity.js";
import { ArtifactService } from "./artifact/artifact.service.js";
import type { BlobStore } from "./blob-store.js";
import type { ShacacheServices } from "./context.js";
import { DirectoryEntryEntity } from "./directory-entry/directory-entry.entity.js";
import { DirectoryEntryService } from "./directory-entry/directory-entry.service.js";
import { openFileBlobStore } from "./file-blob-store.js";
import { shacacheMigrations } from "./migrations.js";
import { openS3BlobStore } from "./s3-blob-store.js";
import { buildShacacheSchema } from "./subgraph.js";

export interface ShacacheService extends SubgraphService {
  services: ShacacheServices;
}

const maxBlobBytes = 64 * 1024 ** 3;
const orphanAgeMs = 24 * 3600_000;
const sweepIntervalMs = 3600_000;

/** Opens the Shacache's store, index and subgraph. */
export async function openShacache(
  { databaseUrl, eventLog, log }: SubgraphResources,
  config: Config,
): Promise<ShacacheService> {
  const blobs: BlobStore = config.s3
    ? await openS3BlobStore(config.s3)
    : await openFileBlobStore(path.join(config.dataDir, "blobs"));
  const orm = await openDatabase({
    url: databaseUrl,
    schema: "shacache",
    entities: [ArtifactEntity, DirectoryEntryEntity],
    migrations: shacacheMigrations,
    poolSize: 6,
    log,
  });
  const services = {
    artifacts: new ArtifactService(orm, eventLog, blobs, maxBlobBytes),
    entries: new DirectoryEntryService(orm, eventLog),
  };
  const sweep = () =>
    blobs.sweep(orphanAgeMs).catch((error) => log.warn({ err: error }, "sweeping abandoned uploads failed"));
  const timer = setInterval(sweep, sweepIntervalMs).unref();
  return {
    subgraph: await buildShacacheSchema(services),
    services,
    startConsumers: () => undefined,
    checkReady: () => Promise.all([pingDatabase(orm), blobs.check()]),
    close: async () => {
      clearInterval(timer);
      await orm.close(true);
      await blobs.close();
    },
  };
}
