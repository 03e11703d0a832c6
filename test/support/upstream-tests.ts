import { spawn } from "node:child_process";
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { Client } from "pg";
import type { RunningSystem } from "./running-system.js";
import type { PythonToolchain } from "./toolchain.js";

export interface UpstreamResult {
  /** Module, class and method: `test_slapproxy.TestRequest.test_request_with_int`. */
  id: string;
  outcome: "ok" | "fail" | "error" | "skip";
  message: string;
}

export interface UpstreamRun {
  system: RunningSystem;
  databaseUrl: string;
  toolchain: PythonToolchain;
  /** Classes that are not run, as `test_slapproxy.TestMultiMasterSupport`. */
  leftOut: readonly string[];
  /** Parts of the ids to run. All, if empty. */
  only: readonly string[];
}

const scripts = path.resolve(import.meta.dirname, "../conformance");
const runTimeoutMs = 9 * 60_000;
const emptiedSchemas = ["catalog", "computer", "monitoring"];

/** Runs slapos.core's own tests against a running system whose database is emptied before each of them. */
export async function runUpstreamTests(run: UpstreamRun): Promise<UpstreamResult[]> {
  const reset = await openResetDoor(run.databaseUrl);
  try {
    const settings = {
      masterUrl: `${run.system.slapUrl}/k/${run.system.adminToken}/`,
      gatewayUrl: run.system.gatewayUrl,
      token: run.system.adminToken,
      resetUrl: reset.url,
      leftOut: run.leftOut,
      only: run.only,
    };
    return await runUpstreamScript("upstream_over_http.py", settings, run.toolchain);
  } finally {
    await reset.close();
  }
}

/** Runs a script of `test/conformance` with the real clients; it prints a line of JSON for each test. */
export async function runUpstreamScript(
  name: string,
  settings: object,
  toolchain: PythonToolchain,
): Promise<UpstreamResult[]> {
  // The checkout may be closed to the user that runs it, as root's home is.
  const folder = mkdtempSync("/tmp/su-");
  const script = path.join(folder, name);
  copyFileSync(path.join(scripts, name), script);
  chmodSync(folder, 0o755);
  chmodSync(script, 0o644);
  try {
    const output = await python(toolchain, [script, JSON.stringify(settings)], folder);
    return output
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as UpstreamResult);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function python(toolchain: PythonToolchain, args: string[], cwd: string): Promise<string> {
  const child = spawn(toolchain.python, args, {
    ...toolchain.runAs,
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
    env: { HOME: cwd, PATH: `${toolchain.bin}:/usr/bin:/bin`, LANG: "C.UTF-8", PYTHONWARNINGS: "ignore" },
    timeout: runTimeoutMs,
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (code === 0) resolve(stdout);
      else reject(new Error(`The upstream tests ended with ${code ?? signal}:\n${stderr}\n${stdout.slice(-2000)}`));
    });
  });
}

/** A door of the test's own: each POST leaves a master without computers, instances and products. */
async function openResetDoor(databaseUrl: string): Promise<{ url: string; close(): Promise<void> }> {
  const database = new Client({ connectionString: databaseUrl });
  await database.connect();
  const { rows } = await database.query<{ tables: string }>(
    `select string_agg(format('%I.%I', schemaname, tablename), ', ') as tables from pg_tables
      where schemaname = any ($1) and tablename not like 'mikro_orm%'`,
    [emptiedSchemas],
  );
  // The master goes on meanwhile, so the locks of all tables may meet its own in another order.
  const empty = async (tries = 5): Promise<unknown> =>
    database.query(`truncate ${rows[0]?.tables}`).catch((error: { code?: string }) => {
      if (error.code !== "40P01" || tries === 0) throw error;
      return empty(tries - 1);
    });
  const server = createServer((_, response) => {
    empty().then(
      () => response.writeHead(204).end(),
      (error: Error) => response.writeHead(500).end(error.message),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await database.end();
    },
  };
}
