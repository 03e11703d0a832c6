import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../common/embedded-postgres.js";
import { startOfflineRelease } from "../support/offline-release.js";
import { RunningSystem } from "../support/running-system.js";
import { SlaposNode } from "../support/slapos-node.js";
import { pythonToolchain, reasonToSkip } from "../support/toolchain.js";

const toolchain = await pythonToolchain();
const skipped = reasonToSkip(toolchain);

/** Upstream's standalone, which makes its master_url of an address and a port: here it is ours, all else is its own. */
const standalone = `
import subprocess, sys
from slapos.slap.standalone import StandaloneSlapOS
url, folder, port, release, slapos = sys.argv[1:]
class Standalone(StandaloneSlapOS):
  _master_url = property(lambda self: url, lambda self, value: None)
slap = Standalone(folder, "127.0.0.1", int(port), computer_id="local", slapos_bin=slapos)
try:
  slap.format(2, "127.0.0.1", "::1")
  slap.supply(release)
  slap.waitForSoftware()
  request = lambda **more: slap.request(release, "alone", partition_parameter_kw={"a": "1"}, **more)
  request()
  slap.waitForInstance()
  print(request().getConnectionParameterDict())
  print(subprocess.check_output([slap._slapos_wrapper, "service", "info", "alone"], text=True))
  request(state="destroyed")
  slap.waitForInstance()
  slap.waitForReport()
  slap.format(1, "127.0.0.1", "::1")
  print([(each.getId(), each.getState()) for each in slap.computer.getComputerPartitionList()])
finally:
  slap.stop()
`;

/** What `slapos proxy` gives: on one machine, the master and three pasted lines, and a local node runs an instance. */
describe.skipIf(skipped !== null)("a master for one machine", () => {
  let system: RunningSystem;
  let tlsPort: number;
  let release: Awaited<ReturnType<typeof startOfflineRelease>>;
  /** Only the shell of the user who pastes the lines: the node itself is what they make. */
  let shell: SlaposNode;
  const folder = mkdtempSync("/tmp/mm-");

  beforeAll(async () => {
    if ("missing" in toolchain) return;
    chmodSync(folder, 0o777);
    tlsPort = await freePort();
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "warn", SLAPGRAPH_SLAP_TLS_PORT: String(tlsPort) });
    release = await startOfflineRelease();
    shell = new SlaposNode({
      toolchain,
      computerId: "none",
      masterUrl: "http://none/",
      clientMasterUrl: "http://none/",
      partitionCount: 1,
    });
  });

  afterAll(async () => {
    for (const place of ["node/inst", "alone", "alone/inst"])
      await shell?.run("/bin/sh", ["-c", `kill $(cat ${folder}/${place}/var/run/supervisord.pid)`]);
    await shell?.close();
    await release?.close();
    await system?.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  test("three lines make a node of it that runs an instance, and its state is kept over a restart", async () => {
    const command = path.resolve(import.meta.dirname, "../../dist/cli/slapgraph.js");
    const url = `${system.gatewayUrl}/graphql`;
    const configured = await shell.run(process.execPath, [
      ...[command, "--url", url, "--token", system.adminToken],
      ...["node", "config", "COMP-1", "--create", "--partitions", "2", "--folder", `${folder}/node`],
    ]);
    expect(configured.code, configured.stderr).toBe(0);
    expect(readFileSync(`${folder}/node/slapos.cfg`, "utf8")).toContain("computer_id = COMP-1");
    const paste = (lines: string) => shell.run("/bin/sh", ["-c", lines]);
    const cfg = `--cfg ${folder}/node/slapos.cfg`;
    const client = `--cfg ${folder}/node/client.cfg`;
    const asked = await paste(
      `slapos supply ${release.url} COMP-1 ${client} && slapos request web ${release.url} ${client}`,
    );
    expect(asked.code, asked.stdout + asked.stderr).toBe(2);
    const ran = await paste(
      `slapos node format --now ${cfg} && slapos node software ${cfg} && slapos node instance ${cfg}`,
    );
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    await system.stop();
    await system.start();
    const again = await paste(
      `slapos request web ${release.url} --parameters a=b ${client} && slapos node instance ${cfg}`,
    );
    expect(again.code, again.stdout + again.stderr).toBe(0);
    const { instances } = await system.graphql<{
      instances: { edges: { node: { title: string; reportedState: string; connectionParameters: object } }[] };
    }>("{ instances(first: 10) { edges { node { title reportedState connectionParameters } } } }");
    expect(instances.edges.map((edge) => edge.node)).toEqual([
      { title: "web", reportedState: "STARTED", connectionParameters: { "echo-a": "b" } },
    ]);
  });

  test("the standalone lives on it, given its address", async () => {
    // It knows of no other computer, and says of none where its request goes.
    await system.graphql(
      `mutation { cordonComputer(input: { reference: "COMP-1" }) { userErrors { code } }
         createComputer(input: { reference: "local" }) { userErrors { code } } }`,
    );
    // Without the slash at its end, as the standalone has it.
    const url = `${system.slapUrl}/k/${system.adminToken}`;
    const slapos = path.join("missing" in toolchain ? "" : toolchain.bin, "slapos");
    const base = `${folder}/alone`;
    await shell.run("mkdir", [base]);
    const ran = await shell.python(standalone, url, base, String(await freePort()), release.url, slapos);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(ran.stdout).toContain("{'echo-a': '1'}");
    expect(ran.stdout).toContain('"requested-state": "started"');
    expect(ran.stdout).toContain("[('slappart0', 'destroyed')]");
  }, 180_000);

  test("a node is set up for certificates the same way, and its token is not left behind", async () => {
    const command = path.resolve(import.meta.dirname, "../../dist/cli/slapgraph.js");
    const where = ["--url", `${system.gatewayUrl}/graphql`, "--token", system.adminToken];
    const created = await shell.run(process.execPath, [command, ...where, "computer", "create", "COMP-2"]);
    expect(created.code, created.stderr).toBe(0);
    const tls = ["--tls", `https://127.0.0.1:${tlsPort}`, "--partitions", "1"];
    const args = ["node", "config", "COMP-2", ...tls, "--folder", `${folder}/tls`];
    const configured = await shell.run(process.execPath, [command, ...where, ...args]);
    expect(configured.code, configured.stderr).toBe(0);
    const formatted = await shell.run("/bin/sh", ["-c", `slapos node format --now --cfg ${folder}/tls/slapos.cfg`]);
    expect(formatted.code, formatted.stdout + formatted.stderr).toBe(0);
    const { computer, tokens } = await system.graphql<{
      computer: { liveness: string; partitions: { edges: { node: { key: string } }[] } };
      tokens: { edges: { node: { subject: string; revokedAt: string | null } }[] };
    }>(
      `{ computer(reference: "COMP-2") { liveness partitions(first: 10) { edges { node { key } } } }
         tokens(first: 100) { edges { node { subject revokedAt } } } }`,
    );
    expect(computer).toEqual({
      liveness: "ONLINE",
      partitions: { edges: [{ node: { key: "COMP-2/slappart0" } }] },
    });
    // The one that the computer was created with is its owner's to keep.
    const good = tokens.edges.filter(({ node }) => node.subject === "COMP-2" && node.revokedAt === null);
    expect(good).toHaveLength(1);
  });
});
