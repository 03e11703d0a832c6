import path from "node:path";
import { z } from "zod";

/** A variable that is wrong ends the start with one sentence per variable, naming it and what it accepts. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

const port = z.coerce
  .number({ error: "a port number from 0 to 65535" })
  .int("a port number from 0 to 65535")
  .min(0, "a port number from 0 to 65535")
  .max(65535, "a port number from 0 to 65535");

const accepted = "a number of seconds from 1 to 31536000";
const seconds = z.coerce.number({ error: accepted }).int(accepted).min(1, accepted).max(31_536_000, accepted);

const whole = (least: number, most: number, accepts: string) =>
  z.coerce.number({ error: accepts }).int(accepts).min(least, accepts).max(most, accepts);

/** A limit: it can be raised as far as anybody wants, but not be without a number. */
const count = (otherwise: number) => whole(1, 1_000_000_000, "a whole number from 1 to 1000000000").default(otherwise);

const flag = z
  .string()
  .transform((text) => text.trim().toLowerCase())
  .pipe(z.enum(["", "0", "1", "on", "off", "true", "false", "yes", "no"], { error: "on or off" }))
  .transform((text) => ["1", "on", "true", "yes"].includes(text));

const url = (protocols: string[], accepts: string) =>
  z.string().refine((text) => URL.canParse(text) && protocols.includes(new URL(text).protocol), { error: accepts });

const httpUrl = url(["http:", "https:"], "an http:// or https:// URL");

const httpUrls = z
  .string()
  .transform((text) => text.split(/[\s,]+/).filter((part) => part !== ""))
  .pipe(z.array(httpUrl.max(2_000)).max(20, "up to 20 URLs"));

export const adminTokenForm = {
  pattern: /^[A-Za-z0-9._~-]{16,512}$/,
  accepts: "16 to 512 characters out of A-Z a-z 0-9 . _ ~ -",
};

const environment = z.object({
  SLAPGRAPH_DATA_DIR: z.string().min(1, "a folder").default(".slapgraph"),
  SLAPGRAPH_HOST: z.string().min(1, "an address to listen on").default("127.0.0.1"),
  SLAPGRAPH_GATEWAY_PORT: port.default(4000),
  SLAPGRAPH_SLAP_PORT: port.default(4001),
  SLAPGRAPH_SHACACHE_PORT: port.default(4002),
  SLAPGRAPH_SLAP_TLS_PORT: port.optional(),
  SLAPGRAPH_SLAP_URL: httpUrl.optional(),
  SLAPGRAPH_NODE_SUSPECT_SECONDS: seconds.default(600),
  SLAPGRAPH_NODE_LOST_SECONDS: seconds.default(3_600),
  SLAPGRAPH_SHACACHE_TLS_PORT: port.optional(),
  SLAPGRAPH_SHACACHE_OPEN_READS: flag.optional(),
  SLAPGRAPH_SHACACHE_STALL_SECONDS: seconds.default(60),
  SLAPGRAPH_SHACACHE_SCRUB_RATE: z.coerce
    .number({ error: "a number of MiB per second from 1 to 10000" })
    .min(1, "a number of MiB per second from 1 to 10000")
    .max(10_000, "a number of MiB per second from 1 to 10000")
    .default(20),
  SLAPGRAPH_SHACACHE_UPSTREAMS: httpUrls.default([]),
  SLAPGRAPH_SHADIR_UPSTREAMS: httpUrls.default([]),
  SLAPGRAPH_UPSTREAM_WAIT_SECONDS: z.coerce
    .number({ error: "a number of seconds from 0.1 to 20" })
    .min(0.1, "a number of seconds from 0.1 to 20")
    .max(20, "a number of seconds from 0.1 to 20")
    .default(10),
  SLAPGRAPH_ADMIN_TOKEN: z.string().regex(adminTokenForm.pattern, adminTokenForm.accepts).optional(),
  SLAPGRAPH_SHACACHE_OPEN_WRITES: flag.default(false),
  SLAPGRAPH_AUDIT_DAYS: whole(1, 36_500, "whole days from 1 to 36500").default(365),
  SLAPGRAPH_MAX_DEPTH: count(20),
  SLAPGRAPH_MAX_ALIASES: count(50),
  SLAPGRAPH_MAX_TOKENS: count(4_000),
  SLAPGRAPH_MAX_COST: count(50_000),
  SLAPGRAPH_MAX_BODY_KIB: count(1_024),
  SLAPGRAPH_MAX_OPERATION_SECONDS: count(30),
  SLAPGRAPH_MAX_SUBSCRIPTIONS: count(2_000),
  SLAPGRAPH_MAX_CONNECTIONS: count(10_000),
  SLAPGRAPH_INTROSPECTION: flag.default(true),
  SLAPGRAPH_TRUSTED_DOCUMENTS: z.string().optional(),
  SLAPGRAPH_LOG_LEVEL: z
    .enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"], {
      error: "one of trace, debug, info, warn, error, fatal, silent",
    })
    .default("info"),
  SLAPGRAPH_TRACES_URL: httpUrl.optional(),
  SLAPGRAPH_EVENT_RETENTION_DAYS: whole(1, 3650, "a number of days from 1 to 3650").default(7),
  SLAPGRAPH_SUBGRAPH_HOST: z.string().min(1, "an address to listen on").default("127.0.0.1"),
  SLAPGRAPH_SUBGRAPH_PORT: port.default(0),
  SLAPGRAPH_IDENTITY_URL: httpUrl.optional(),
  SLAPGRAPH_CATALOG_URL: httpUrl.optional(),
  SLAPGRAPH_COMPUTER_URL: httpUrl.optional(),
  SLAPGRAPH_MONITORING_URL: httpUrl.optional(),
  SLAPGRAPH_SHACACHE_SUBGRAPH_URL: httpUrl.optional(),
  DATABASE_URL: url(["postgres:", "postgresql:"], "a postgres:// URL").optional(),
  S3_ENDPOINT: httpUrl.optional(),
  S3_PUBLIC_ENDPOINT: httpUrl.optional(),
  S3_ACCESS_KEY: z.string().min(1, "an access key").optional(),
  S3_SECRET_KEY: z.string().min(1, "a secret key").optional(),
  S3_BUCKET: z
    .string()
    .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "a bucket name: 3 to 63 of a-z 0-9 . -")
    .default("slapgraph"),
});

export interface S3Config {
  endpoint: string;
  /** The endpoint as clients of the Shacache reach it, where that differs. */
  publicEndpoint?: string | undefined;
  accessKey: string;
  secretKey: string;
  bucket: string;
}

export interface Limits {
  depth: number;
  aliases: number;
  tokens: number;
  cost: number;
  bodyBytes: number;
  operationMs: number;
  subscriptionsPerCaller: number;
  /** Of each door. */
  connections: number;
}

/** What every process shares. Each service's own `config.ts` picks from it. */
export interface Config {
  dataDir: string;
  host: string;
  gatewayPort: number;
  slapPort: number;
  /** Where nodes come in with client certificates; no such listener when it is not set. */
  slapTlsPort: number | undefined;
  shacachePort: number;
  /** Where nodes upload with client certificates; no such listener when it is not set. */
  shacacheTlsPort: number | undefined;
  /** The SLAP door's address as nodes reach it, where it differs from host and port (a proxy in front). */
  slapUrl: string | undefined;
  /** When a node that is not heard of is SUSPECT, and when LOST. */
  liveness: { suspectAfterMs: number; lostAfterMs: number };
  adminToken: string | undefined;
  /** Anonymous reads of the Shacache; where it is not said, they go with a loopback address. */
  openReads: boolean;
  openWrites: boolean;
  /** How long an upload may send nothing. */
  uploadStallMs: number;
  /** How fast the scrub reads through what is stored. */
  scrubMebibytesPerSecond: number;
  /** Caches that are asked, in order, for blobs and for entries that are not here. */
  upstreams: { blobs: string[]; entries: string[]; waitMs: number };
  /** What is refused where somebody asks for too much (docs/limits.md). */
  limits: Limits;
  /** Whether the gateway tells its schema. */
  introspection: boolean;
  /** The folder of the documents that the gateway answers; it answers any without. */
  trustedDocuments: string | undefined;
  /** How long the audit trail goes back. */
  auditDays: number;
  logLevel: string;
  /** Where OpenTelemetry spans are sent (OTLP over HTTP); none are made when it is not set. */
  tracesUrl: string | undefined;
  /** How long events are kept for subscribers that resume. */
  eventRetentionMs: number;
  /** Where a subgraph listens when it runs apart from the gateway. */
  subgraphHost: string;
  subgraphPort: number;
  /** Set when the subgraphs run apart: the gateway reaches each at its URL. */
  subgraphUrls: Partial<Record<SubgraphName, string>>;
  databaseUrl: string | undefined;
  s3: S3Config | undefined;
}

export const subgraphNames = ["identity", "catalog", "computer", "monitoring", "shacache"] as const;
export type SubgraphName = (typeof subgraphNames)[number];

const loopback = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/;

function isLoopback(host: string): boolean {
  return loopback.test(host);
}

/** The SLAP door's address as nodes reach it. */
export function slapUrlOf(config: Config): string {
  return (config.slapUrl ?? `http://${config.host}:${config.slapPort}`).replace(/\/+$/, "");
}

/** Pure: reads nothing but what it is given. Throws ConfigError listing every wrong variable. */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const given = Object.fromEntries(Object.entries(env).filter(([, text]) => text !== undefined && text !== ""));
  const parsed = environment.safeParse(given);
  const problems = parsed.success
    ? []
    : parsed.error.issues.map((issue) => `${String(issue.path[0])} is wrong: it accepts ${issue.message}.`);
  if (!parsed.success) throw new ConfigError(problems.join("\n"));
  const value = parsed.data;
  if (value.SLAPGRAPH_SHACACHE_OPEN_WRITES && !isLoopback(value.SLAPGRAPH_HOST)) {
    problems.push(
      "SLAPGRAPH_SHACACHE_OPEN_WRITES lets anybody upload: it accepts on only when SLAPGRAPH_HOST is loopback.",
    );
  }
  if (value.SLAPGRAPH_NODE_LOST_SECONDS <= value.SLAPGRAPH_NODE_SUSPECT_SECONDS) {
    problems.push("SLAPGRAPH_NODE_LOST_SECONDS is wrong: it accepts more than SLAPGRAPH_NODE_SUSPECT_SECONDS.");
  }
  const s3Given = [value.S3_ENDPOINT, value.S3_ACCESS_KEY, value.S3_SECRET_KEY].filter((text) => text !== undefined);
  if (s3Given.length !== 0 && s3Given.length !== 3) {
    problems.push("S3_ENDPOINT, S3_ACCESS_KEY and S3_SECRET_KEY go together: set all three or none.");
  }
  if (problems.length > 0) throw new ConfigError(problems.join("\n"));
  const urls: [SubgraphName, string | undefined][] = [
    ["identity", value.SLAPGRAPH_IDENTITY_URL],
    ["catalog", value.SLAPGRAPH_CATALOG_URL],
    ["computer", value.SLAPGRAPH_COMPUTER_URL],
    ["monitoring", value.SLAPGRAPH_MONITORING_URL],
    ["shacache", value.SLAPGRAPH_SHACACHE_SUBGRAPH_URL],
  ];
  return {
    dataDir: path.resolve(value.SLAPGRAPH_DATA_DIR),
    host: value.SLAPGRAPH_HOST,
    gatewayPort: value.SLAPGRAPH_GATEWAY_PORT,
    slapPort: value.SLAPGRAPH_SLAP_PORT,
    slapTlsPort: value.SLAPGRAPH_SLAP_TLS_PORT,
    shacachePort: value.SLAPGRAPH_SHACACHE_PORT,
    shacacheTlsPort: value.SLAPGRAPH_SHACACHE_TLS_PORT,
    slapUrl: value.SLAPGRAPH_SLAP_URL,
    liveness: {
      suspectAfterMs: value.SLAPGRAPH_NODE_SUSPECT_SECONDS * 1000,
      lostAfterMs: value.SLAPGRAPH_NODE_LOST_SECONDS * 1000,
    },
    adminToken: value.SLAPGRAPH_ADMIN_TOKEN,
    openReads: value.SLAPGRAPH_SHACACHE_OPEN_READS ?? isLoopback(value.SLAPGRAPH_HOST),
    openWrites: value.SLAPGRAPH_SHACACHE_OPEN_WRITES,
    uploadStallMs: value.SLAPGRAPH_SHACACHE_STALL_SECONDS * 1000,
    scrubMebibytesPerSecond: value.SLAPGRAPH_SHACACHE_SCRUB_RATE,
    upstreams: {
      blobs: value.SLAPGRAPH_SHACACHE_UPSTREAMS,
      entries: value.SLAPGRAPH_SHADIR_UPSTREAMS,
      waitMs: value.SLAPGRAPH_UPSTREAM_WAIT_SECONDS * 1000,
    },
    limits: {
      depth: value.SLAPGRAPH_MAX_DEPTH,
      aliases: value.SLAPGRAPH_MAX_ALIASES,
      tokens: value.SLAPGRAPH_MAX_TOKENS,
      cost: value.SLAPGRAPH_MAX_COST,
      bodyBytes: value.SLAPGRAPH_MAX_BODY_KIB * 1024,
      operationMs: value.SLAPGRAPH_MAX_OPERATION_SECONDS * 1000,
      subscriptionsPerCaller: value.SLAPGRAPH_MAX_SUBSCRIPTIONS,
      connections: value.SLAPGRAPH_MAX_CONNECTIONS,
    },
    introspection: value.SLAPGRAPH_INTROSPECTION,
    trustedDocuments: value.SLAPGRAPH_TRUSTED_DOCUMENTS,
    auditDays: value.SLAPGRAPH_AUDIT_DAYS,
    logLevel: value.SLAPGRAPH_LOG_LEVEL,
    tracesUrl: value.SLAPGRAPH_TRACES_URL,
    eventRetentionMs: value.SLAPGRAPH_EVENT_RETENTION_DAYS * 86_400_000,
    subgraphHost: value.SLAPGRAPH_SUBGRAPH_HOST,
    subgraphPort: value.SLAPGRAPH_SUBGRAPH_PORT,
    subgraphUrls: Object.fromEntries(urls.filter(([, text]) => text !== undefined)) as Config["subgraphUrls"],
    databaseUrl: value.DATABASE_URL,
    s3:
      value.S3_ENDPOINT && value.S3_ACCESS_KEY && value.S3_SECRET_KEY
        ? {
            endpoint: value.S3_ENDPOINT,
            publicEndpoint: value.S3_PUBLIC_ENDPOINT,
            accessKey: value.S3_ACCESS_KEY,
            secretKey: value.S3_SECRET_KEY,
            bucket: value.S3_BUCKET,
          }
        : undefined,
  };
}
