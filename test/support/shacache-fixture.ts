import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parse } from "graphql";
import { Client } from "pg";
import { loadConfig } from "../../common/config.js";
import { Closer } from "../../common/lifecycle.js";
import { executeOperation } from "../../common/subgraph.js";
import { startShacache } from "../../shacache/door.js";
import { openShacache } from "../../shacache/server.js";
import { adminToken, createTestDatabase, openTestResources, testLog } from "./database.js";
import { bucketOf, s3Environment, startMinio } from "./minio-server.js";
import { rawRequest } from "./raw-request.js";
import { administrator } from "./services.js";
import { minioBinary, reasonToSkip } from "./toolchain.js";

const minio = await minioBinary();

/** Both stores, for what holds on either. */
export const stores: { store: "files" | "MinIO"; isSkipped: boolean }[] = [
  { store: "files", isSkipped: false },
  { store: "MinIO", isSkipped: reasonToSkip(minio) !== null },
];

export type ShacacheFixture = Awaited<ReturnType<typeof openShacacheFixture>>;

/** The Shacache in this process: its services, its door and its subgraph, on a database and a store of its own. */
export async function openShacacheFixture(store: "files" | "MinIO", environment: Record<string, string> = {}) {
  const closer = new Closer();
  const database = await createTestDatabase();
  closer.add("database", database.drop);
  const resources = await openTestResources(database.url);
  closer.add("resources", resources.close);
  const dataDir = mkdtempSync("/tmp/sg-cache-");
  closer.add("folder", () => rmSync(dataDir, { recursive: true, force: true }));
  const server = store === "MinIO" && !("missing" in minio) ? await startMinio(minio.binary) : null;
  if (server) closer.add("MinIO", server.close);
  const config = loadConfig({
    SLAPGRAPH_DATA_DIR: dataDir,
    SLAPGRAPH_SHACACHE_PORT: "0",
    DATABASE_URL: database.url,
    SLAPGRAPH_SHACACHE_SCRUB_RATE: "10000",
    ...s3Environment(server ?? undefined),
    ...environment,
  });
  const shacache = await openShacache(resources, config);
  closer.add("shacache", shacache.close);
  shacache.startConsumers();
  closer.add("consumers", () => resources.eventLog.stop());
  const door = await startShacache({
    host: config.host,
    port: config.shacachePort,
    tlsPort: config.shacacheTlsPort ?? null,
    services: shacache.services,
    audit: resources.audit,
    tokens: resources.tokens,
    certificates: resources.certificates,
    openReads: config.openReads,
    openWrites: config.openWrites,
    uploadStallMs: config.uploadStallMs,
    checkReady: shacache.checkReady,
    log: testLog,
  });
  closer.add("door", door.close);
  const sql = new Client({ connectionString: database.url });
  await sql.connect();
  closer.add("statements", () => sql.end());
  const bucket = server && bucketOf(server);
  const folder = path.join(config.dataDir, "blobs");

  return {
    ...shacache,
    door,
    resources,
    databaseUrl: database.url,
    folder,
    minio: server,
    close: () => closer.close(),
    /** A request as it is written, without a credential unless the target or the headers have one. */
    raw: (method: string, target: string, body?: Buffer, headers?: Record<string, string>) =>
      rawRequest(door.url, method, target, body, headers),
    /** The administrator's upload. */
    upload: (bytes: Buffer) => rawRequest(door.url, "POST", `/k/${adminToken}/shacache`, bytes),
    put: (key: string, body: string | Buffer) =>
      rawRequest(door.url, "PUT", `/k/${adminToken}/shadir/${key}`, Buffer.from(body)),
    /** An operation of the subgraph; throws what it answered if that has errors. */
    async graphql<Data>(
      source: string,
      variables: Record<string, unknown> = {},
      caller = administrator,
    ): Promise<Data> {
      const operation = { document: parse(source), variables, operationName: undefined, isSubscription: false };
      const result = await executeOperation(shacache.subgraph, { ...operation, caller, requestId: "test" }, testLog);
      if (Symbol.asyncIterator in result || result.errors || !result.data) throw new Error(JSON.stringify(result));
      return result.data as Data;
    },
    async rows<Row extends object>(statement: string, values: unknown[] = []): Promise<Row[]> {
      return (await sql.query<Row>(statement, values)).rows;
    },
    async events(kind: string): Promise<{ subject: string; cause: string | null; actor: string }[]> {
      const statement = "select subject, cause, actor from event_log.event where kind = $1 order by position";
      return (await sql.query(statement, [kind])).rows;
    },
    /** Changes the stored bytes of a blob behind everybody's back. */
    async corrupt(sha512: string, change: (bytes: Buffer) => Buffer): Promise<void> {
      const { rows } = await sql.query<{ location: string }>(
        "select location from shacache.artifact where sha512 = $1",
        [sha512],
      );
      const location = rows[0]?.location ?? "";
      if (bucket) return bucket.change(`blobs/${location}`, change);
      const file = path.join(folder, "blobs", location.slice(0, 2), location);
      writeFileSync(file, change(readFileSync(file)));
    },
    /** The names of all that the store holds, what is unfinished and put aside included. */
    async storedNames(): Promise<string[]> {
      if (bucket) return bucket.names();
      return readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.join(path.relative(folder, entry.parentPath), entry.name));
    },
  };
}
