import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { ConfigError } from "./config.js";
import type { Logger } from "./log.js";
import { type PostgresCluster, reachHint } from "./postgres-cluster.js";

const startTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;

export interface Postmaster {
  readonly pid: number;
  /** Resolves when the process is gone, however it went, with a sentence about it. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

/** One postmaster process, ready for connections. Throws a ConfigError with its last words when it does not get so far. */
export async function startPostmaster(
  { dir, postgres, owner }: PostgresCluster,
  { port, settings, url, log }: { port: number; settings: Record<string, string>; url: string; log: Logger },
): Promise<Postmaster> {
  const flags = ["-D", dir, "-p", String(port)];
  for (const [name, value] of Object.entries(settings)) flags.push("-c", `${name}=${value}`);
  const server = spawn(postgres, flags, { ...owner, stdio: ["ignore", "ignore", "pipe"], cwd: "/" });
  let lastWords = "";
  server.stderr.on("data", (chunk: Buffer) => {
    lastWords = (lastWords + chunk.toString("utf8")).slice(-4000);
    log.debug({ postgres: chunk.toString("utf8").trim() }, "embedded PostgreSQL");
  });
  const stopGuard = guardAgainstOrphan(server);
  const ended = new Promise<string>((resolve) => {
    server.once("error", (error) => resolve(`The embedded PostgreSQL cannot start: ${error.message}. ${reachHint}`));
    server.once("exit", (code, signal) =>
      resolve(
        `The embedded PostgreSQL ended with ${signal ?? `code ${code}`}: ${lastWords.trim()}${/Permission denied/.test(lastWords) ? `. ${reachHint}` : ""}`,
      ),
    );
  });
  // A guard that outlives the server would signal whoever gets its process id next.
  void ended.then(stopGuard);
  const stop = async () => {
    if (server.exitCode !== null || server.signalCode !== null || server.pid === undefined) return;
    server.kill("SIGINT");
    const deadline = setTimeout(() => server.kill("SIGQUIT"), stopTimeoutMs);
    await ended;
    clearTimeout(deadline);
  };
  const problem = await Promise.race([ended, untilReady(url)]);
  if (problem !== null) {
    await stop();
    throw new ConfigError(problem);
  }
  return { pid: server.pid as number, ended, stop };
}

/** Null once it answers, else what it said last. */
async function untilReady(url: string): Promise<string | null> {
  const deadline = Date.now() + startTimeoutMs;
  for (;;) {
    const client = new Client({ connectionString: url, connectionTimeoutMillis: 2000 });
    client.on("error", () => undefined);
    try {
      await client.connect();
      await client.end();
      return null;
    } catch (error) {
      await client.end().catch(() => undefined);
      if (Date.now() > deadline)
        return `The embedded PostgreSQL is not ready after ${startTimeoutMs / 1000} s: ${(error as Error).message}`;
      await delay(25, undefined, { ref: false });
    }
  }
}

/**
 * A process killed with SIGKILL leaves its database running. The data dir's lock says that nobody owns it any more, so it
 * is asked to end (SIGINT: fast shutdown) before a new one starts.
 */
export async function stopOrphan(dir: string, log: Logger): Promise<void> {
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
