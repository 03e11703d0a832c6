import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { freePort, startEmbeddedPostgres } from "../../common/embedded-postgres.js";
import { RunningSystem } from "../support/running-system.js";
import { slapForms, slapPost } from "../support/slap-client.js";
import { testLog } from "../support/test-log.js";
import type { PythonToolchain } from "../support/toolchain.js";
import { waitFor } from "../support/wait-for.js";
import { endAfterwards } from "./report.js";

/** A master that nodes can be attached to; `url` ends with a slash and holds the credential. */
export interface Master {
  name: string;
  url: string;
}

/** Slapgraph on a durable PostgreSQL of its own, which the hand-written transactions use too. */
export async function startSlapgraph(): Promise<
  Master & { databaseUrl: string; createComputer: (reference: string) => Promise<unknown> }
> {
  const dir = mkdtempSync("/tmp/sb-");
  chmodSync(dir, 0o755);
  endAfterwards(() => rmSync(dir, { recursive: true, force: true }));
  const postgres = await startEmbeddedPostgres({
    dir: `${dir}/postgres`,
    password: "bench",
    database: "slapgraph",
    log: testLog,
  });
  endAfterwards(() => postgres.stop());
  const system = await RunningSystem.start({ DATABASE_URL: postgres.url, SLAPGRAPH_LOG_LEVEL: "warn" });
  endAfterwards(() => system.close());
  const create = "mutation ($input: CreateComputerInput!) { createComputer(input: $input) { userErrors { code } } }";
  return {
    name: "slapgraph",
    url: `${system.slapUrl}/k/${system.adminToken}/`,
    databaseUrl: postgres.url,
    createComputer: (reference) => system.graphql(create, { input: { reference } }),
  };
}

/** The real slapproxy, its database on the same disk. */
export async function startSlapproxy(toolchain: PythonToolchain): Promise<Master> {
  const folder = mkdtempSync("/tmp/sp-");
  chmodSync(folder, 0o777);
  const port = await freePort();
  const cfg = path.join(folder, "proxy.cfg");
  writeFileSync(
    cfg,
    `[slapos]\ncomputer_id = COMP-1\nmaster_url = http://127.0.0.1:${port}/\n[slapproxy]\nhost = 127.0.0.1\nport = ${port}\ndatabase_uri = ${folder}/proxy.db\n`,
  );
  if (toolchain.runAs) chownSync(cfg, toolchain.runAs.uid, toolchain.runAs.gid);
  const child = spawn(path.join(toolchain.bin, "slapos"), ["proxy", "start", "--cfg", cfg], {
    ...toolchain.runAs,
    cwd: folder,
    stdio: "ignore",
    env: { HOME: folder, PATH: `${toolchain.bin}:/usr/bin:/bin`, LANG: "C.UTF-8", PYTHONWARNINGS: "ignore" },
  });
  endAfterwards(() => end(child, folder));
  const url = `http://127.0.0.1:${port}/`;
  await waitFor(
    () =>
      fetch(`${url}getRunId`).then(
        (response) => response.status,
        () => 0,
      ),
    { until: (status) => status === 200, timeoutMs: 60_000, what: "slapproxy" },
  );
  return { name: "slapproxy", url };
}

/** node:http and nothing else: what there is to win. It answers everything with the same bytes, bodies read. */
export async function startBare(bytes: Buffer): Promise<Master> {
  const folder = mkdtempSync("/tmp/sh-");
  writeFileSync(path.join(folder, "bytes"), bytes);
  const port = await freePort();
  const source = `const bytes = require("node:fs").readFileSync("bytes");
    require("node:http").createServer((request, response) => {
      request.resume();
      request.on("end", () => {
        response.writeHead(200, { "content-type": "text/xml; charset=utf-8", "content-length": bytes.length });
        response.end(bytes);
      });
    }).listen(${port}, "127.0.0.1", () => console.log("ready"));`;
  const child = spawn(process.execPath, ["-e", source], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
  endAfterwards(() => end(child, folder));
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return { name: "bare node:http", url: `http://127.0.0.1:${port}/` };
}

async function end(child: ChildProcess, folder: string): Promise<void> {
  const exited = new Promise((resolve) => child.once("exit", resolve));
  if (child.exitCode === null && child.signalCode === null) {
    child.kill("SIGKILL");
    await exited;
  }
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
}

/** One POST that has to be taken; 408 is an answer, too, for a request that waits. */
export async function post(master: Master, endpoint: string, body: string, ...statuses: number[]): Promise<string> {
  const { status, text } = await slapPost(master.url, endpoint, body);
  if (status !== 200 && !statuses.includes(status))
    throw new Error(`${master.name}: ${endpoint}: ${status} ${text.slice(0, 300)}`);
  return text;
}

export const releaseUrl = "http://releases.example/software.cfg";
export const parametersOf = (n: number | string, count = 10) =>
  Object.fromEntries(
    Array.from({ length: count }, (_, key) => [`parameter-${key}`, `value ${key} of ${n} & <more> of it`]),
  );
const connectionOf = (n: number) =>
  Object.fromEntries(
    Array.from({ length: 20 }, (_, key) => [
      `connection-${key}`,
      `https://[2001:db8::${key}]:443${key}/${n}/${"x".repeat(40)}`,
    ]),
  );

/** A computer as the figures are about: half of its partitions allocated, with 10 parameters and 20 connection keys each. */
export async function furnish(master: Master, computer: string, partitions: number, allocated: number): Promise<void> {
  await post(master, "loadComputerConfigurationFromXML", slapForms.format(computer, partitions));
  await post(master, "supplySupply", slapForms.supply(computer, releaseUrl));
  for (let n = 0; n < allocated; n++) {
    const answer = await post(
      master,
      "requestComputerPartition",
      slapForms.request(`${computer} ${n}`, releaseUrl, parametersOf(n), { computer_guid: computer }),
    );
    const partition = /slap_computer_partition_id<\/string>\s*<string>([^<]+)/.exec(answer)?.[1];
    const key = `${computer}/${partition}`;
    await post(master, "setComputerPartitionConnectionXml", slapForms.connection(key, connectionOf(n)));
    await post(master, "startedComputerPartition", slapForms.partition(key));
  }
}
