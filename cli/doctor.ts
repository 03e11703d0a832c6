import { existsSync, readFileSync, statfsSync, statSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { Client as S3Client } from "minio";
import { Client } from "pg";
import { type Config, ConfigError, loadConfig } from "../common/config.js";
import { adminTokenFile, authorityFile, checkAdminToken, lockDataDir, openAuthority } from "../common/data-dir.js";
import { existingSystemUser, findBinaries } from "../common/postgres-cluster.js";
import { readKeys, signingKeysFile } from "../common/signing-keys.js";
import { readTrustedDocuments } from "../gateway/limits/trusted-documents.js";

/** What is wrong, in a sentence, and what helps. */
class Problem extends Error {
  constructor(
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

interface Check {
  name: string;
  /** What was found to be well; throws a Problem for what is not. */
  run: () => Promise<string>;
}

export interface Finding {
  name: string;
  isWell: boolean;
  text: string;
  remedy: string | null;
}

const oldestNode = 24;
const oldestPostgres = 140000;
const wantedConnections = 100;
const leastFreeBytes = 1024 ** 3;
const maxSkewMs = 5_000;
const timeoutMs = 5_000;

/** Looks at a configuration and what it stands on, without changing anything. */
export async function examine(env: NodeJS.ProcessEnv): Promise<Finding[]> {
  let config: Config;
  try {
    config = loadConfig(env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const remedy = "Correct the variable; the README's table says what each accepts.";
    return error.message.split("\n").map((text) => ({ name: "configuration", isWell: false, text, remedy }));
  }
  const findings: Finding[] = [];
  for (const { name, run } of checksOf(config)) {
    try {
      findings.push({ name, isWell: true, text: await run(), remedy: null });
    } catch (error) {
      const remedy = error instanceof Problem ? error.remedy : "The text is the system's own.";
      findings.push({ name, isWell: false, text: (error as Error).message, remedy });
    }
  }
  return findings;
}

function checksOf(config: Config): Check[] {
  const database = config.databaseUrl;
  const { s3, trustedDocuments: documents } = config;
  return [
    { name: "configuration", run: async () => "every variable is accepted" },
    { name: "node", run: async () => checkNode() },
    { name: "data dir", run: () => checkDataDir(config) },
    { name: "secrets", run: () => checkSecrets(config) },
    { name: "disk", run: async () => checkDisk(config) },
    { name: "ports", run: () => checkPorts(config) },
    database === undefined
      ? { name: "embedded database", run: () => checkEmbedded(config) }
      : { name: "database", run: () => checkDatabase(database) },
    ...(s3 ? [{ name: "S3", run: () => checkS3(s3) }] : []),
    ...(documents === undefined ? [] : [{ name: "documents", run: async () => checkDocuments(documents) }]),
  ];
}

function checkNode(): string {
  const major = Number(process.versions.node.split(".")[0]);
  if (major >= oldestNode) return `version ${process.versions.node}`;
  throw new Problem(
    `This runs on Node ${process.versions.node}, older than ${oldestNode}.`,
    "Start by `npm start` or bin/slapgraph.js, which take the one that `npm ci` brought.",
  );
}

async function checkDataDir({ dataDir }: Config): Promise<string> {
  const existing = nearestExisting(dataDir);
  await access(existing, constants.W_OK | constants.X_OK).catch(() => {
    throw new Problem(
      `${existing} cannot be written to by this user.`,
      "Give it to this user, or set SLAPGRAPH_DATA_DIR to a folder of its own.",
    );
  });
  return existing === dataDir ? dataDir : `${dataDir}, made at the first start`;
}

async function checkSecrets({ dataDir, adminToken }: Config): Promise<string> {
  const [token, keys, authority] = [adminTokenFile(dataDir), signingKeysFile(dataDir), authorityFile(dataDir)];
  const others = ["postgres-password", "service-secret"].map((file) => path.join(dataDir, file));
  const files = [token, keys, authority, ...others].filter((file) => existsSync(file));
  const open = files.filter((file) => (statSync(file).mode & 0o077) !== 0);
  if (open.length > 0) throw new Problem(`Others can read ${open.join(", ")}.`, `chmod 600 ${open.join(" ")}`);
  try {
    if (files.includes(token) && adminToken === undefined) checkAdminToken(token, readFileSync(token, "utf8"));
    if (files.includes(keys)) readKeys(keys);
    if (files.includes(authority)) await openAuthority(authority, readFileSync(authority, "utf8"));
  } catch (error) {
    throw new Problem((error as Error).message, "Put it back from a backup: a new one ends what the old one signed.");
  }
  return "readable by their owner only";
}

/** Each registered document is checked against the schema when the gateway starts. */
function checkDocuments(folder: string): string {
  try {
    return `${readTrustedDocuments(folder).size} registered`;
  } catch (error) {
    throw new Problem((error as Error).message, "Correct the folder; docs/limits.md says what may be in it.");
  }
}

function checkDisk({ dataDir }: Config): string {
  const { bavail, bsize } = statfsSync(nearestExisting(dataDir));
  const free = `${((Number(bavail) * Number(bsize)) / 1024 ** 3).toFixed(1)} GiB free`;
  if (Number(bavail) * Number(bsize) >= leastFreeBytes) return free;
  throw new Problem(`The data dir's disk has ${free}.`, "Free some: without room the database stops.");
}

/** Busy is well where it is this Slapgraph that keeps them busy. */
async function checkPorts(config: Config): Promise<string> {
  const { host, dataDir } = config;
  const ports = [
    ["SLAPGRAPH_GATEWAY_PORT", config.gatewayPort],
    ["SLAPGRAPH_SLAP_PORT", config.slapPort],
    ["SLAPGRAPH_SHACACHE_PORT", config.shacachePort],
    ...(config.slapTlsPort === undefined ? [] : [["SLAPGRAPH_SLAP_TLS_PORT", config.slapTlsPort] as const]),
    ...(config.shacacheTlsPort === undefined ? [] : [["SLAPGRAPH_SHACACHE_TLS_PORT", config.shacacheTlsPort] as const]),
  ] as const;
  const seen = new Set<number>();
  for (const [variable, port] of ports) {
    if (port !== 0 && seen.has(port))
      throw new Problem(`${variable} is ${port}, which another door has.`, "Give each door a port of its own.");
    seen.add(port);
  }
  if (await runsOn(dataDir)) return "in use by the Slapgraph that runs on this data dir";
  for (const [variable, port] of ports) {
    await listen(host, port).catch((error: Error) => {
      throw new Problem(
        `${variable}: ${host}:${port} cannot be opened: ${error.message}.`,
        "Free it, or choose another.",
      );
    });
  }
  return "free";
}

async function runsOn(dataDir: string): Promise<boolean> {
  if (!existsSync(dataDir)) return false;
  try {
    await (await lockDataDir(dataDir)).release();
    return false;
  } catch (error) {
    if (error instanceof ConfigError) return true;
    throw error;
  }
}

function listen(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = net.createServer().once("error", reject);
    server.listen(port, host, () => server.close(() => resolve()));
  });
}

async function checkEmbedded({ dataDir }: Config): Promise<string> {
  const { postgres } = await findBinaries();
  if (process.getuid?.() !== 0) return "PostgreSQL runs as this user";
  const user = existingSystemUser();
  // Made at the first start, and then nobody but "others" of every folder.
  const { uid, gid } = user ?? { uid: -1, gid: -1 };
  for (const place of [path.dirname(postgres), nearestExisting(dataDir)]) {
    const closed = foldersAbove(place).find((folder) => !mayPass(folder, uid, gid));
    if (closed !== undefined)
      throw new Problem(
        `As root, PostgreSQL runs as the user postgres, who cannot pass through ${closed}.`,
        `chmod o+x ${closed}, move out of it, or run as another user than root.`,
      );
  }
  return `PostgreSQL runs as the user postgres${user ? "" : ", made at the first start"}`;
}

function foldersAbove(place: string): string[] {
  const parent = path.dirname(place);
  return parent === place ? [place] : [...foldersAbove(parent), place];
}

function mayPass(folder: string, uid: number, gid: number): boolean {
  const { mode, uid: owner, gid: group } = statSync(folder);
  return (mode & (owner === uid ? 0o100 : group === gid ? 0o010 : 0o001)) !== 0;
}

async function checkDatabase(url: string): Promise<string> {
  const place = `${new URL(url).hostname}:${new URL(url).port || 5432}`;
  const client = new Client({ connectionString: url, connectionTimeoutMillis: timeoutMs, query_timeout: timeoutMs });
  client.on("error", () => undefined);
  try {
    await client.connect().catch((error: Error & { code?: string; errors?: Error[] }) => {
      const text = error.message || error.errors?.map((one) => one.message).join("; ");
      throw new Problem(
        `DATABASE_URL: ${place} cannot be used: ${text}.`,
        "Start it, or correct host, port, name, user and password.",
      );
    });
    const { rows } = await client.query<{ version: string; connections: string; may_create: boolean; now: Date }>(
      `select current_setting('server_version_num') as version, current_setting('max_connections') as connections,
         has_database_privilege(current_database(), 'CREATE') as may_create, clock_timestamp() as now`,
    );
    const [row] = rows;
    if (!row) throw new Problem(`${place} answers nothing.`, "Look at its log.");
    if (Number(row.version) < oldestPostgres)
      throw new Problem(`${place} is PostgreSQL ${row.version}, older than 14.`, "Take 14 or newer.");
    if (!row.may_create)
      throw new Problem(
        `The user of DATABASE_URL may not create schemas in its database.`,
        "grant create on database … to …",
      );
    if (Number(row.connections) < wantedConnections)
      throw new Problem(
        `${place} has max_connections ${row.connections}.`,
        `Set it to ${wantedConnections} or more: each process has several pools.`,
      );
    assertClock(row.now.getTime(), place);
    return `${place}, PostgreSQL ${Math.floor(Number(row.version) / 10_000)}`;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function checkS3({ endpoint, accessKey, secretKey, bucket }: NonNullable<Config["s3"]>): Promise<string> {
  const answer = await fetch(endpoint, { signal: AbortSignal.timeout(timeoutMs) }).catch((error: Error) => {
    const cause = (error.cause as Error | undefined)?.message ?? error.message;
    throw new Problem(`S3_ENDPOINT: ${endpoint} does not answer: ${cause}.`, "Start it, or correct the address.");
  });
  const date = Date.parse(answer.headers.get("date") ?? "");
  if (!Number.isNaN(date)) assertClock(date, endpoint);
  const { hostname, port, protocol } = new URL(endpoint);
  const client = new S3Client({
    endPoint: hostname,
    useSSL: protocol === "https:",
    accessKey,
    secretKey,
    ...(port ? { port: Number(port) } : {}),
  });
  const exists = await client.bucketExists(bucket).catch((error: Error & { code?: string }) => {
    throw new Problem(
      `${endpoint} refuses S3_ACCESS_KEY and S3_SECRET_KEY: ${error.code ?? error.message}.`,
      "Correct them, or give them the right to the bucket.",
    );
  });
  return exists ? `${endpoint}, bucket ${bucket}` : `${endpoint}, bucket ${bucket} made at the first start`;
}

/** Tokens and signatures carry times: clocks that differ make good ones bad. */
function assertClock(theirMs: number, place: string): void {
  const skewMs = Math.abs(Date.now() - theirMs);
  if (skewMs > maxSkewMs)
    throw new Problem(
      `The clock of ${place} differs from this one by ${Math.round(skewMs / 1000)} s.`,
      "Keep both by NTP.",
    );
}

function nearestExisting(place: string): string {
  return existsSync(place) ? place : nearestExisting(path.dirname(place));
}
