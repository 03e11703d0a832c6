import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../common/embedded-postgres.js";
import { startOfflineRelease, treeRelease } from "../support/offline-release.js";
import { RunningSystem } from "../support/running-system.js";
import { SlaposNode } from "../support/slapos-node.js";
import { type PythonToolchain, pythonToolchains, reasonToSkip } from "../support/toolchain.js";

const found = await pythonToolchains();
// Upstream's `slapos node register` does its work for root only.
const toolchains = process.getuid?.() === 0 ? found : { missing: "slapos node register, which runs as root only" };
const skipped = "missing" in found ? reasonToSkip(found) : "missing" in toolchains ? String(toolchains.missing) : null;
const generations = "missing" in toolchains ? [{ slaposVersion: "none" } as PythonToolchain] : toolchains;

interface Answer {
  status: number;
  text: string;
}

describe.skipIf(skipped !== null).each(generations)(
  "nodes and instances that identify themselves by certificate, slapos.core $slaposVersion",
  (toolchain) => {
    const folder = mkdtempSync("/tmp/sc-");
    const configuration = path.join(folder, "slapos.cfg");
    let system: RunningSystem;
    let tlsUrl: string;
    let release: Awaited<ReturnType<typeof startOfflineRelease>>;
    let node: SlaposNode;
    let computerId: string;

    beforeAll(async () => {
      const port = await freePort();
      tlsUrl = `https://127.0.0.1:${port}`;
      system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "warn", SLAPGRAPH_SLAP_TLS_PORT: String(port) });
      release = await startOfflineRelease(treeRelease);
    });

    afterAll(async () => {
      await node?.close();
      await release?.close();
      await system?.close();
      rmSync(folder, { recursive: true, force: true });
    });

    const registrationToken = async () =>
      (
        await system.graphql<{ createRegistrationToken: { secret: string } }>(
          "mutation { createRegistrationToken(input: {}) { secret userErrors { code } } }",
        )
      ).createRegistrationToken.secret;

    const register = (name: string, token: string) =>
      new Promise<{ code: number; output: string }>((resolve) => {
        const urls = ["--master-url", tlsUrl, "--master-url-web", system.slapUrl];
        const args = ["node", "register", name, ...urls, "--token", token, "--cfg", configuration];
        execFile(path.join(toolchain.bin, "slapos"), args, { cwd: folder }, (error, stdout, stderr) =>
          resolve({ code: error ? Number(error.code) : 0, output: stdout + stderr }),
        );
      });

    /** A call with a certificate of the node's folder, as the real client makes it. */
    const call = async (pair: string, method: "get" | "post", target: string, fields: Record<string, string>) => {
      const files = [`${pair}.crt`, `${pair}.key`].map((name) => node.path(name));
      const result = await node.python(oneCall, method, `${tlsUrl}/${target}`, JSON.stringify(fields), ...files);
      expect(result.code, result.stderr).toBe(0);
      return JSON.parse(result.stdout) as Answer;
    };

    test("slapos node register lets a node in with a one-time token, once", async () => {
      const token = await registrationToken();
      const registered = await register("rack-1", token);
      expect(registered.code, registered.output).toBe(0);
      computerId = /^computer_id = (.*)$/m.exec(readFileSync(configuration, "utf8"))?.[1] ?? "";
      expect(computerId).toMatch(/^COMP-\d+$/);
      expect(statSync(path.join(folder, "ssl/key")).mode & 0o777).toBe(0o600);
      const { computer } = await system.graphql<{ computer: { title: string } }>(
        `query ($reference: String!) { computer(reference: $reference) { title } }`,
        { reference: computerId },
      );
      expect(computer.title).toBe("rack-1");
      expect((await register("rack-2", token)).output).toContain("Access denied");
    });

    test("a name that is in use says so, and costs no use of the token", async () => {
      const token = await registrationToken();
      expect((await register("rack-1", token)).output).toContain("already in use");
      const registered = await register("rack-3", token);
      expect(registered.code, registered.output).toBe(0);
    });

    test("a node with its certificate runs a tree, each partition with a certificate of its own", async () => {
      node = new SlaposNode({
        certificate: await certificateOf("rack-4"),
        toolchain,
        computerId,
        masterUrl: tlsUrl,
        clientMasterUrl: `${system.slapUrl}/k/${system.adminToken}/`,
        partitionCount: 3,
      });
      const formatted = await node.format();
      expect(formatted.code, formatted.stdout + formatted.stderr).toBe(0);
      expect((await node.supply(release.url)).code).toBe(0);
      const built = await node.software();
      expect(built.code, built.stdout + built.stderr).toBe(0);
      await node.request("root", release.url, "--parameters", "children=a");
      for (let turn = 0; turn < 4; turn++) await node.instance();
      const { instances } = await system.graphql<{
        instances: { edges: { node: { title: string; reportedState: string; connectionParameters: object } }[] };
      }>(`{ instances(first: 10) { edges { node { title reportedState connectionParameters } } } }`);
      expect(instances.edges.map((edge) => edge.node)).toMatchObject([
        { title: "root", reportedState: "STARTED", connectionParameters: { "child-a": "from a" } },
        { title: "a", reportedState: "STARTED" },
      ]);
      expect(readFileSync(node.path("pki/slappart0.crt"), "utf8")).toContain("BEGIN CERTIFICATE");
      const again = readFileSync(node.path("pki/slappart0.key"), "utf8");
      await node.instance("--force");
      expect(readFileSync(node.path("pki/slappart0.key"), "utf8")).toBe(again);
    });

    test("an instance's certificate sees its own partition only, whatever X-SlapPartition says", async () => {
      const own = await call("pki/slappart0", "get", "getFullComputerInformation", { computer_id: computerId });
      expect(own.status).toBe(200);
      expect(own.text).toContain("slappart0");
      expect(own.text).not.toContain("slappart1");
      const of = (partition: string) => ({ computer_id: computerId, computer_partition_id: partition });
      expect((await call("pki/slappart0", "post", "startedComputerPartition", of("slappart0"))).status).toBe(200);
      expect((await call("pki/slappart0", "post", "startedComputerPartition", of("slappart1"))).status).toBe(404);
      expect(
        (await call("pki/slappart0", "post", "buildingSoftwareRelease", { ...of("slappart0"), url: release.url }))
          .status,
      ).toBe(404);
      expect((await call("pki/slappart0", "get", "getComputerPartitionCertificate", of("slappart1"))).status).toBe(404);
    });

    test("a certificate of another authority, or of none, is no credential", async () => {
      const stranger = await node.python(selfSigned, node.folder, computerId);
      expect(stranger.code, stranger.stderr).toBe(0);
      const answer = await call("stranger", "get", "getFullComputerInformation", { computer_id: computerId });
      expect(answer.status).toBe(401);
      expect(answer.text).toContain("UNAUTHENTICATED");
    });

    test("a revoked certificate is refused at the next request", async () => {
      const revoked = await call("node", "post", "revokeComputerCertificate", { computer_id: computerId });
      expect(revoked.status).toBe(200);
      const after = await call("node", "get", "getFullComputerInformation", { computer_id: computerId });
      expect(after.status).toBe(401);
      // The partition's own certificate goes on; a new one for the computer is its owner's to make.
      const own = await call("pki/slappart0", "get", "getFullComputerInformation", { computer_id: computerId });
      expect(own.status).toBe(200);
      const made = await node.python(generate, `${system.slapUrl}/k/${system.adminToken}/`, computerId);
      expect(made.code, made.stderr).toBe(0);
      expect(made.stdout).toContain(`CN=${computerId}/email`);
      const twice = await node.python(generate, `${system.slapUrl}/k/${system.adminToken}/`, computerId);
      expect(twice.stderr).toContain("409");
    });

    /** Registers a node and takes its identity for the one that the next steps run. */
    async function certificateOf(name: string): Promise<{ certificate: string; key: string }> {
      const registered = await register(name, await registrationToken());
      expect(registered.code, registered.output).toBe(0);
      computerId = /^computer_id = (.*)$/m.exec(readFileSync(configuration, "utf8"))?.[1] ?? "";
      const read = (file: string) => readFileSync(path.join(folder, "ssl", file), "utf8");
      return { certificate: read("certificate"), key: read("key") };
    }
  },
);

const oneCall = `import json, sys, requests, urllib3
urllib3.disable_warnings()
method, url, fields, certificate, key = sys.argv[1:]
fields = json.loads(fields)
sent = {"params": fields} if method == "get" else {"data": fields}
headers = {"Authorization": "X-SlapPartition computer_id=%s, computer_partition_id=%s" % (fields["computer_id"], fields["computer_partition_id"])} if "computer_partition_id" in fields else {}
answer = getattr(requests, method)(url, cert=(certificate, key), verify=False, headers=headers, timeout=30, **sent)
print(json.dumps({"status": answer.status_code, "text": answer.text}))
`;

const selfSigned = `import subprocess, sys
folder, name = sys.argv[1:]
subprocess.check_call(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "10", "-subj", "/CN=" + name,
    "-addext", "subjectAltName=URI:urn:slapgraph:node:main:" + name, "-keyout", folder + "/stranger.key", "-out", folder + "/stranger.crt"], stderr=subprocess.DEVNULL)
`;

const generate = `import sys
from slapos import slap
client = slap.slap()
client.initializeConnection(sys.argv[1])
print(client.registerComputer(sys.argv[2]).generateCertificate()["certificate"])
`;
