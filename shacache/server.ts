import type http from "node:http";
import path from "node:path";
import type { Config } from "../common/config.js";
import { openDatabase, pingDatabase } from "../common/database.js";
import { toAppError } from "../common/errors.js";
import { type Door, openDoor, publicTarget, requestIdOf, sendText } from "../common/http-door.js";
import type { Logger } from "../common/log.js";
import type { SubgraphResources, SubgraphService } from "../common/subgraph-service.js";
import { ArtifactEntity } from "./artifact/artifact.entity.js";
import { ArtifactService } from "./artifact/artifact.service.js";
import type { BlobStore } from "./blob-store.js";
import type { ShacacheServices } from "./context.js";
import { DirectoryEntryEntity } from "./directory-entry/directory-entry.entity.js";
import { DirectoryEntryService } from "./directory-entry/directory-entry.service.js";
import { openFileBlobStore } from "./file-blob-store.js";
import { shacacheMigrations } from "./migrations.js";
import { drain, parseTarget, route, type ShacacheAccess } from "./routes.js";
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
    blobs.sweepOrphans(orphanAgeMs).catch((error) => log.warn({ err: error }, "sweeping abandoned uploads failed"));
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

export interface ShacacheDoorOptions extends ShacacheAccess {
  host: string;
  port: number;
  services: ShacacheServices;
  checkReady: () => Promise<unknown>;
  log: Logger;
}

/** Door 3: blobs at `/shacache`, the directory at `/shadir`. */
export function startShacache(options: ShacacheDoorOptions): Promise<Door> {
  const { host, port, checkReady, log } = options;
  return openDoor({
    name: "Shacache",
    host,
    port,
    portVariable: "SLAPGRAPH_SHACACHE_PORT",
    checkReady,
    log,
    handler: (request, response) => void answer(request, response, options),
  });
}

async function answer(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  options: ShacacheDoorOptions,
): Promise<void> {
  const { services, log } = options;
  const requestId = requestIdOf(request.headers["x-request-id"]);
  response.setHeader("x-request-id", requestId);
  try {
    await route(request, response, services, options);
  } catch (error) {
    const appError = toAppError(error);
    if (appError.httpStatus >= 500) {
      log.error(
        { err: appError.cause ?? appError, requestId, target: publicTarget(request) },
        "a Shacache call failed",
      );
    }
    if (response.headersSent || response.destroyed) return void response.destroy();
    if (!request.complete) {
      await drain(request);
      response.setHeader("connection", "close");
    }
    if (response.destroyed) return;
    if (appError.httpStatus === 503) response.setHeader("retry-after", "5");
    if (appError.httpStatus === 401) response.setHeader("www-authenticate", 'Basic realm="slapgraph"');
    const isBlobRead = request.method === "GET" && parseTarget(request.url ?? "/").store === "shacache";
    // After a cut the client appends whatever comes to the blob, an error's text too (part 2, 1).
    if (isBlobRead || request.method === "HEAD") response.writeHead(appError.httpStatus, { "content-length": 0 }).end();
    else sendText(response, appError.httpStatus, `${appError.code}: ${appError.message}\n`);
  }
}
