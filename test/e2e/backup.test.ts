import { execFile } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Load } from "../support/load.js";
import { RunningSystem } from "../support/running-system.js";
import { waitFor } from "../support/wait-for.js";

const command = path.resolve(import.meta.dirname, "../../dist/cli/slapgraph.js");
const folder = mkdtempSync("/tmp/sg-backup-");
// PostgreSQL may run as another user than the tests.
chmodSync(folder, 0o755);
const quiet = { SLAPGRAPH_LOG_LEVEL: "error" };
let system: RunningSystem;
let load: Load;

const slapgraph = (dataDir: string, ...args: string[]) =>
  promisify(execFile)(process.execPath, [command, ...args], {
    env: { PATH: process.env.PATH, SLAPGRAPH_DATA_DIR: dataDir },
  });
const fails = (dataDir: string, ...args: string[]) =>
  slapgraph(dataDir, ...args).then(
    () => "",
    ({ code, stderr }: { code: number; stderr: string }) => `${code} ${stderr}`,
  );

beforeAll(async () => {
  system = await RunningSystem.start(quiet);
  load = await Load.prepare(system, 1);
});

afterAll(async () => {
  await load.stop();
  await system.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a backup that is taken while writes go on restores to a system with all that was answered before it", async () => {
  load.start();
  await waitFor(() => load.ledger.blobs.length > 2 && load.ledger.reports.length > 5, { what: "some load" });
  const before = load.ledger.snapshot();
  const { stdout } = await slapgraph(system.dataDir, "backup", `${folder}/online`);
  expect(stdout).toContain("while it runs");
  await load.stop();
  expect(load.faults).toEqual([]);
  const dataDir = `${folder}/restored`;
  await slapgraph(dataDir, "restore", `${folder}/online`);
  expect(statSync(`${dataDir}/admin-token`).mode & 0o777).toBe(0o600);
  const restored = await RunningSystem.start({ ...quiet, SLAPGRAPH_DATA_DIR: dataDir });
  try {
    expect(restored.adminToken).toBe(system.adminToken);
    expect(await before.findLost(restored)).toEqual([]);
  } finally {
    await restored.close();
  }
});

test("a backup of a stopped system has everything, and its keys still prove who calls", async () => {
  const { createComputer } = await system.graphql<{ createComputer: { credential: string } }>(
    'mutation { createComputer(input: { reference: "KEPT" }) { credential } }',
  );
  await system.stop();
  const { stdout } = await slapgraph(system.dataDir, "backup", `${folder}/cold`);
  expect(stdout).toContain("while it is stopped");
  const dataDir = `${folder}/again`;
  await slapgraph(dataDir, "restore", `${folder}/cold`);
  const restored = await RunningSystem.start({ ...quiet, SLAPGRAPH_DATA_DIR: dataDir });
  try {
    expect(await load.ledger.findLost(restored, { everything: true })).toEqual([]);
    expect(
      await restored.graphql('{ computer(reference: "KEPT") { reference } }', {}, createComputer.credential),
    ).toEqual({ computer: { reference: "KEPT" } });
  } finally {
    await restored.close();
  }
  await system.start();
});

test("nothing is overwritten, and what is no whole backup is not restored", async () => {
  expect(await fails(system.dataDir, "backup", `${folder}/cold`)).toContain("exists");
  expect(existsSync(`${folder}/cold.unfinished`)).toBe(false);
  // Its copy would be copied into itself.
  expect(await fails(system.dataDir, "backup", `${system.dataDir}/inside`)).toContain("outside of it");
  expect(await fails(system.dataDir, "restore", `${folder}/cold`)).toContain("is not empty");
  rmSync(`${folder}/cold/backup.json`);
  expect(await fails(`${folder}/third`, "restore", `${folder}/cold`)).toContain("no whole backup");
  expect(existsSync(`${folder}/third`)).toBe(false);
});
