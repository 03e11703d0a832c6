import path from "node:path";
import type { Config } from "../common/config.js";
import { openDatabase, pingDatabase } from "../common/database.js";
import type { SubgraphResources, SubgraphService } from "../common/subgraph-service.js";
import { Adoption } from "./artifact/adoption.js";
import { ArtifactEntity } from "./artifact/artifact.entity.js";
import { ArtifactService } from "./artifact/artifact.service.js";
import { PinRecords } from "./artifact/pin-records.js";
import { Scrub } from "./artifact/scrub.js";
import type { BlobStore } from "./blob-store.js";
import { CacheDriftService } from "./cache-drift/cache-drift.service.js";
import { CachePolicyEntity } from "./cache-policy/cache-policy.entity.js";
import { CachePolicyService } from "./cache-policy/cache-policy.service.js";
import { UploadLimits } from "./cache-policy/upload-limits.js";
import { ComputerArtifactEntity } from "./computer-artifact/computer-artifact.entity.js";
import { ComputerArtifactService } from "./computer-artifact/computer-artifact.service.js";
import { TakenArtifacts } from "./computer-artifact/taken-artifacts.js";
import type { ShacacheServices } from "./context.js";
import { DirectoryEntryEntity } from "./directory-entry/directory-entry.entity.js";
import { DirectoryEntryService } from "./directory-entry/directory-entry.service.js";
import { EntryRecords } from "./directory-entry/entry-records.js";
import { openFileBlobStore } from "./file-blob-store.js";
import { shacacheMigrations } from "./migrations.js";
import { makeIndexTables } from "./reindex/index-tables.js";
import { ReindexService } from "./reindex/reindex.service.js";
import { onlyHere, Repeating } from "./repeating.js";
import { recordReleaseUse, releaseUseKinds } from "./retention/release-use.js";
import { RetentionService } from "./retention/retention.service.js";
import { CacheStatisticsService } from "./statistics/cache-statistics.service.js";
import { ReadCounts } from "./statistics/read-counts.js";
import { buildShacacheSchema } from "./subgraph.js";
import { TrustedCertificateEntity } from "./trusted-certificate/trusted-certificate.entity.js";
import { TrustedCertificateService } from "./trusted-certificate/trusted-certificate.service.js";
import { BlobPullService } from "./upstream/blob-pull.service.js";
import { DirectoryPullService } from "./upstream/directory-pull.service.js";
import { Upstream } from "./upstream/upstream.js";

export interface ShacacheService extends SubgraphService {
  services: ShacacheServices;
}

/** An upload is cut when it stalls or takes half a day: what is older has ended, one way or another. */
const abandonedAgeMs = 24 * 3_600_000;
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const countingIntervalMs = 30_000;
const notingIntervalMs = 5_000;

/** Opens the Shacache's store, index and subgraph. */
export async function openShacache(
  { databaseUrl, eventLog, log }: SubgraphResources,
  config: Config,
): Promise<ShacacheService> {
  const blobs = await openBlobStore(config);
  const orm = await openDatabase({
    url: databaseUrl,
    schema: "shacache",
    entities: [
      ArtifactEntity,
      DirectoryEntryEntity,
      CachePolicyEntity,
      TrustedCertificateEntity,
      ComputerArtifactEntity,
    ],
    migrations: shacacheMigrations,
    poolSize: 6,
    log,
  });
  if (await makeIndexTables(orm))
    log.warn("the tables of the Shacache's index were gone and are empty now: `slapgraph cache reindex` fills them");
  const policies = new CachePolicyService(orm, eventLog);
  const certificates = new TrustedCertificateService(orm, eventLog);
  const limits = new UploadLimits(orm, policies);
  const reads = new ReadCounts(orm);
  const artifacts = new ArtifactService(orm, eventLog, blobs, limits, reads);
  const scrub = new Scrub(orm, blobs, artifacts, config.scrubMebibytesPerSecond * 1024 * 1024);
  const records = { entries: new EntryRecords(blobs.records), pins: new PinRecords(blobs.records) };
  const retention = new RetentionService(orm, eventLog, artifacts, reads, records);
  const entries = new DirectoryEntryService(orm, eventLog, certificates, limits, records.entries);
  const reindex = new ReindexService(orm, blobs, records, new Adoption(orm, blobs, artifacts));
  const { upstreams } = config;
  const toUpstreams = (urls: string[]) => urls.map((url) => new Upstream(url, upstreams.waitMs));
  const pulling = path.join(config.dataDir, "pulling");
  const blobPulls = new BlobPullService(artifacts, toUpstreams(upstreams.blobs), pulling, log);
  const directoryPulls = new DirectoryPullService(entries, toUpstreams(upstreams.entries), log);
  const taken = new TakenArtifacts(orm);
  const services = {
    artifacts,
    entries,
    policies,
    certificates,
    retention,
    statistics: new CacheStatisticsService(orm, reads),
    reads,
    scrub,
    reindex,
    blobs,
    taken,
    computerArtifacts: new ComputerArtifactService(orm, taken),
    drift: new CacheDriftService(orm, taken),
    blobPulls,
    directoryPulls,
  };
  // Whoever brings its own database is alone with its store: what is unfinished there will never be finished.
  const isAlone = config.databaseUrl === undefined;
  if (isAlone) await blobs.sweep(0).catch((error) => log.warn({ err: error }, "sweeping abandoned uploads failed"));
  const sweeping = new Repeating("sweeping abandoned uploads", hourMs, () => blobs.sweep(abandonedAgeMs), log);
  const scrubbing = new Repeating(
    "scrubbing",
    dayMs,
    (signal) => onlyHere(databaseUrl, "scrub", () => scrub.run(signal)),
    log,
  );
  const collecting = new Repeating(
    "collecting",
    dayMs,
    () => onlyHere(databaseUrl, "collection", () => retention.collect()),
    log,
  );
  const counting = new Repeating("counting reads", countingIntervalMs, () => reads.flush(), log);
  const noting = new Repeating("noting what computers took", notingIntervalMs, () => taken.flush(), log);
  const forgetting = new Repeating("forgetting what computers took", dayMs, () => taken.dropOld(), log);
  const recording = new Repeating("recording old entries", dayMs, (signal) => entries.recordOld(signal), log);
  const reindexing = new Repeating(
    "making the index anew",
    hourMs,
    (signal) => onlyHere(databaseUrl, "reindex", () => reindex.run(signal)),
    log,
  );
  const repeated = [sweeping, scrubbing, collecting, counting, noting, forgetting, recording, reindexing];
  return {
    subgraph: await buildShacacheSchema(services, {
      scrubNow: () => scrubbing.now(),
      reindexNow: () => reindexing.now(),
    }),
    services,
    startConsumers: () =>
      eventLog.consume(orm, {
        name: "shacache",
        concerns: ({ kind }) => releaseUseKinds.includes(kind),
        handler: recordReleaseUse,
      }),
    checkReady: () => Promise.all([pingDatabase(orm), blobs.check()]),
    close: async () => {
      await Promise.all([...repeated, blobPulls, directoryPulls].map((one) => one.close()));
      await reads.flush().catch((error) => log.warn({ err: error }, "the last reads were not counted"));
      await taken.flush().catch((error) => log.warn({ err: error }, "what computers took last was not noted"));
      await orm.close(true);
      await blobs.close();
    },
  };
}

async function openBlobStore({ s3, dataDir }: Config): Promise<BlobStore> {
  if (!s3) return openFileBlobStore(path.join(dataDir, "blobs"));
  // The S3 client is much code, which a start without it has not to wait for.
  const { openS3BlobStore } = await import("./s3-blob-store.js");
  return openS3BlobStore(s3);
}
