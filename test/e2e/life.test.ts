import { randomBytes } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startOfflineRelease } from "../support/offline-release.js";
import { RunningSystem, type Wiring } from "../support/running-system.js";
import { SlaposNode } from "../support/slapos-node.js";
import { Subscriber } from "../support/subscriber.js";
import { minioBinary, pythonToolchain, reasonToSkip } from "../support/toolchain.js";
import { waitFor } from "../support/wait-for.js";

const toolchain = await pythonToolchain();
const skipped = reasonToSkip(toolchain);
const minio = await minioBinary();
const wirings: Wiring[] = ["one process", "apart", ...("missing" in minio ? [] : ["composed" as const])];

const partitionChanges = `subscription ($after: String) { partitionStateChanged(after: $after) { cursor at change { from to cause
  partition { key state health lastBang { message } computer { reference }
    instance { reference title softwareRelease { url product { name title } } } } } } }`;
const installationChanges = `subscription ($after: String) { installationStateChanged(after: $after) { cursor change { from to
  installation { softwareRelease { url } } } } }`;

interface PartitionChange {
  from: string;
  to: string;
  cause: string | null;
  partition: {
    key: string;
    state: string;
    health: string | null;
    lastBang: { message: string } | null;
    computer: { reference: string };
    instance: {
      reference: string;
      title: string;
      softwareRelease: { url: string; product: { name: string; title: string } | null };
    } | null;
  };
}

interface InstallationChange {
  to: string;
}

const hostile = { text: `& < > é " ' \u{1f600}`, nested: { list: [1, 2.5, null, true, { deep: "a & b" }], empty: {} } };

/** One life, step by step: each test goes on from where the one before it ended. */
describe.skipIf(skipped !== null).each(wirings)(
  "from a node's report to a subscriber, with the real clients, %s",
  (wiring) => {
    let system: RunningSystem;
    let node: SlaposNode;
    let release: Awaited<ReturnType<typeof startOfflineRelease>>;
    let masterUrl: string;
    const overWebSocket = new Subscriber<PartitionChange>();
    const overEventStream = new Subscriber<PartitionChange>();
    const installations = new Subscriber<InstallationChange>();

    const follow = () => {
      const { gatewayUrl, adminToken } = system;
      overWebSocket.followWebSocket(gatewayUrl, adminToken, "partitionStateChanged", partitionChanges);
      overEventStream.followEventStream(gatewayUrl, adminToken, "partitionStateChanged", partitionChanges);
      installations.followWebSocket(gatewayUrl, adminToken, "installationStateChanged", installationChanges);
    };
    const seen = (subscriber: Subscriber<PartitionChange>, title: string) =>
      subscriber.changes.filter((change) => change.partition.instance?.title === title).map((change) => change.to);

    beforeAll(async () => {
      system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "warn" }, wiring);
      release = await startOfflineRelease();
    });

    afterAll(async () => {
      overWebSocket.cut();
      overEventStream.cut();
      installations.cut();
      await node?.close();
      await release?.close();
      await system?.close();
    });

    test("two subscribers are open, one over WebSocket and one over Server-Sent Events", async () => {
      follow();
      await waitFor(() => overWebSocket.isOpen && overEventStream.isOpen && installations.isOpen, {
        what: "open subscriptions",
      });
    });

    test("a computer that is created through GraphQL is formatted by the real node with four partitions", async () => {
      if ("missing" in toolchain) return;
      const created = await system.graphql<{
        createComputer: { credential: string; masterUrl: string; userErrors: unknown[] };
      }>(
        `mutation { createComputer(input: { reference: "COMP-1", title: "bench" }) { computer { reference } credential masterUrl userErrors { code message path } } }`,
      );
      expect(created.createComputer.userErrors).toEqual([]);
      masterUrl = created.createComputer.masterUrl;
      expect(masterUrl).toContain(created.createComputer.credential);
      const clientMasterUrl = `${system.slapUrl}/k/${system.adminToken}/`;
      node = new SlaposNode({ toolchain, computerId: "COMP-1", masterUrl, clientMasterUrl, partitionCount: 4 });
      const formatted = await node.format();
      expect(formatted.code, formatted.stderr).toBe(0);
      const { computer } = await system.graphql<{
        computer: { liveness: string; partitions: { edges: { node: { key: string; state: string } }[] } };
      }>(
        `{ computer(reference: "COMP-1") { id reference liveness partitions(first: 100) { edges { node { key state message } } } } }`,
      );
      expect(computer.liveness).toBe("ONLINE");
      expect(computer.partitions.edges.map((edge) => edge.node)).toMatchObject(
        [0, 1, 2, 3].map((number) => ({ key: `COMP-1/slappart${number}`, state: "FREE" })),
      );
    });

    test("a published release is supplied and built by the real node, seen by query and by subscription", async () => {
      await system.graphql(
        `mutation ($url: String!) {
        createSoftwareProduct(input: { name: "offline", title: "Offline release" }) { userErrors { code } }
        publishSoftwareRelease(input: { productName: "offline", url: $url }) { userErrors { code } }
      }`,
        { url: release.url },
      );
      const supplied = await node.supply(release.url);
      expect(supplied.code, supplied.stderr).toBe(0);
      const built = await node.software();
      expect(built.code, built.stdout + built.stderr).toBe(0);
      const { computer } = await system.graphql<{
        computer: { installations: { edges: { node: { reportedState: string; softwareRelease: { url: string } } }[] } };
      }>(
        `{ computer(reference: "COMP-1") { installations(first: 20) { edges { node { requestedState reportedState softwareRelease { url } } } } } }`,
      );
      expect(computer.installations.edges.map((edge) => edge.node)).toEqual([
        { requestedState: "AVAILABLE", reportedState: "AVAILABLE", softwareRelease: { url: release.url } },
      ]);
      await waitFor(() => installations.changes.map((change) => change.to), {
        until: (states) => states.join() === "NONE,BUILDING,AVAILABLE",
        what: "the installation's events",
      });
    });

    test("two instances, requested by GraphQL and by slapos request, run and publish their parameters intact", async () => {
      const requested = await system.graphql<{ requestInstance: { userErrors: unknown[] } }>(
        `mutation ($url: String!) { requestInstance(input: { title: "web", releaseUrl: $url, softwareType: "default", parameters: { a: 1 }, computerReference: "COMP-1" }) { instance { reference } userErrors { code message path } } }`,
        { url: release.url },
      );
      expect(requested.requestInstance.userErrors).toEqual([]);
      const file = node.writeFile("parameters.json", JSON.stringify(hostile));
      const flags = [
        "--parameters-file",
        file,
        "--force-serialisation",
        "json-in-xml",
        "--node",
        "computer_guid=COMP-1",
      ];
      const asked = await node.request("tricky", release.url, ...flags);
      expect(asked.code, asked.stdout + asked.stderr).toBe(0);
      const ran = await node.instance();
      expect(ran.code, ran.stdout + ran.stderr).toBe(0);
      const { instances } = await system.graphql<{
        instances: {
          edges: {
            node: {
              title: string;
              reportedState: string;
              parameters: { _: string };
              connectionParameters: { _: string };
            };
          }[];
        };
      }>(
        `{ instances(first: 20) { edges { node { reference title requestedState reportedState parameters connectionParameters partition { key } } } pageInfo { hasNextPage endCursor } } }`,
      );
      const [web, tricky] = instances.edges.map((edge) => edge.node);
      expect(web).toMatchObject({
        title: "web",
        reportedState: "STARTED",
        parameters: { a: 1 },
        connectionParameters: { "echo-a": "1" },
      });
      expect(tricky).toMatchObject({ title: "tricky", reportedState: "STARTED" });
      expect(JSON.parse(tricky?.parameters._ ?? "")).toEqual(hostile);
      expect(JSON.parse(tricky?.connectionParameters._ ?? "")).toEqual({ echo: hostile });
      const again = await node.request("tricky", release.url, ...flags);
      expect(again.code, again.stderr).toBe(0);
      expect(again.stdout + again.stderr).toContain("a & b");
      const services = await node.run("/bin/sh", ["-c", `ps -ef | grep -c '[s]leep 1000000'`]);
      expect(Number(services.stdout)).toBeGreaterThanOrEqual(2);
    });

    test("a settled node says nothing to report, and an identical request changes no revision", async () => {
      const revisionOf = async () =>
        (
          await system.graphql<{ partition: { revision: number } }>(
            `{ partition(key: "COMP-1/slappart0") { revision } }`,
          )
        ).partition.revision;
      const before = await revisionOf();
      const eventsBefore = overWebSocket.changes.length;
      expect((await node.instance()).code).toBe(0);
      expect(await revisionOf()).toBe(before);
      expect(overWebSocket.changes.length).toBe(eventsBefore);
    });

    test("a failing promise is an ERROR with health RED and its bang, and a healed one STARTED with GREEN, for both subscribers", async () => {
      const broken = node.partitionPath("slappart0", "broken");
      writeFileSync(broken, "");
      await node.instance();
      await waitFor(() => seen(overEventStream, "web").at(-1), {
        until: (state) => state === "ERROR",
        what: "the error",
      });
      // The node runs each minute: it processes the banged partition again, and finds it still broken.
      await node.instance();
      rmSync(broken);
      const healed = await node.instance();
      expect(healed.code, healed.stdout + healed.stderr).toBe(0);
      for (const subscriber of [overWebSocket, overEventStream]) {
        await waitFor(() => seen(subscriber, "web"), {
          until: (states) => states.join() === "ALLOCATED,STARTED,ERROR,STARTED",
          what: "the life of web",
        });
        expect(subscriber.errors).toEqual([]);
        const joined = subscriber.changes
          .filter((change) => change.partition.instance?.title === "web")
          .map((change) => change.partition);
        for (const partition of joined) {
          expect(partition).toMatchObject({
            key: "COMP-1/slappart0",
            computer: { reference: "COMP-1" },
            instance: {
              title: "web",
              softwareRelease: { url: release.url, product: { name: "offline", title: "Offline release" } },
            },
          });
        }
        expect(joined.map(({ state, health, lastBang }) => [state, health, lastBang?.message ?? null])).toEqual([
          ["ALLOCATED", "UNKNOWN", null],
          ["STARTED", "GREEN", null],
          ["ERROR", "RED", expect.stringContaining("check_file")],
          ["STARTED", "GREEN", expect.stringContaining("check_file")],
        ]);
        const error = subscriber.changes.find((change) => change.to === "ERROR");
        expect(error?.cause).toContain("the file is broken");
      }
    });

    test("a subscriber that was cut resumes with its last cursor and gets exactly what it missed, nothing twice", async () => {
      overWebSocket.cut();
      const broken = node.partitionPath("slappart1", "broken");
      writeFileSync(broken, "");
      await node.instance();
      rmSync(broken);
      await node.instance();
      await waitFor(() => seen(overEventStream, "tricky"), {
        until: (states) => states.join() === "ALLOCATED,STARTED,ERROR,STARTED",
      });
      expect(seen(overWebSocket, "tricky")).toEqual(["ALLOCATED", "STARTED"]);
      overWebSocket.followWebSocket(system.gatewayUrl, system.adminToken, "partitionStateChanged", partitionChanges);
      await waitFor(() => seen(overWebSocket, "tricky"), {
        until: (states) => states.join() === "ALLOCATED,STARTED,ERROR,STARTED",
      });
      const story = (subscriber: Subscriber<PartitionChange>) =>
        subscriber.changes.map((change) => [change.partition.key, change.from, change.to]);
      expect(story(overWebSocket)).toEqual(story(overEventStream));
    });

    test("the real cache client uploads 20 MiB with a signed entry, selects and downloads it, and the graph shows it", async () => {
      const artifact = randomBytes(20 * 1024 * 1024);
      writeFileSync(node.path("artifact"), artifact);
      const uploaded = await node.python(
        cacheClient,
        system.shacacheUrl,
        `${system.shacacheUrl}/k/${system.adminToken}`,
        node.folder,
      );
      expect(uploaded.code, uploaded.stdout + uploaded.stderr).toBe(0);
      const { sha512, same } = JSON.parse(uploaded.stdout.trim().split("\n").at(-1) ?? "{}") as {
        sha512: string;
        same: boolean;
      };
      expect(same).toBe(true);
      const shown = await system.graphql(
        `query ($sha512: String!) { artifact(sha512: $sha512) { sha512 sizeBytes entries(first: 10) { edges { node { key isSigned } } } } }`,
        { sha512 },
      );
      expect(shown).toEqual({
        artifact: {
          sha512,
          sizeBytes: artifact.length,
          entries: { edges: [{ node: { key: "test-key", isSigned: true } }] },
        },
      });
    });

    test("killed in the middle and started again, nothing that was answered is missing, and node and subscribers go on", async () => {
      const answered: string[] = [];
      const asking = (async () => {
        for (let number = 0; number < 500; number++) {
          const title = `pending-${number}`;
          const result = await system.graphql<{ requestInstance: { instance: { reference: string } } }>(
            `mutation ($title: String!, $url: String!) { requestInstance(input: { title: $title, releaseUrl: $url, computerReference: "COMP-1" }) { instance { reference } } }`,
            { title, url: release.url },
          );
          answered.push(result.requestInstance.instance.reference);
        }
      })().catch(() => undefined);
      await waitFor(() => answered.length > 20, { what: "answered requests" });
      await system.kill();
      await asking;
      overWebSocket.cut();
      overEventStream.cut();
      await system.start();
      for (const reference of answered) {
        const { instance } = await system.graphql<{ instance: { reference: string } | null }>(
          `query ($reference: String!) { instance(reference: $reference) { reference } }`,
          { reference },
        );
        expect(instance).toEqual({ reference });
      }
      overWebSocket.followWebSocket(system.gatewayUrl, system.adminToken, "partitionStateChanged", partitionChanges);
      overEventStream.followEventStream(
        system.gatewayUrl,
        system.adminToken,
        "partitionStateChanged",
        partitionChanges,
      );
      const ran = await node.instance();
      expect(ran.code, ran.stdout + ran.stderr).toBe(0);
      await waitFor(() => seen(overWebSocket, "pending-1").at(-1), {
        until: (state) => state === "STARTED",
        what: "the node going on",
      });
      await waitFor(() => overEventStream.changes.length === overWebSocket.changes.length, { what: "equal streams" });
      const story = (subscriber: Subscriber<PartitionChange>) =>
        subscriber.changes.map((change) => [change.partition.key, change.from, change.to]);
      expect(story(overWebSocket)).toEqual(story(overEventStream));
    });
  },
);

/** Signs with a key of its own, as a build machine does. */
const cacheClient = `
import hashlib, json, os, subprocess, sys
from slapos.libnetworkcache import NetworkcacheClient
read, write, folder = sys.argv[1:]
key, certificate = os.path.join(folder, "sign.key"), os.path.join(folder, "sign.crt")
subprocess.check_call(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "10", "-subj", "/CN=test", "-keyout", key, "-out", certificate], stderr=subprocess.DEVNULL)
client = NetworkcacheClient({
    "download-cache-url": read + "/shacache", "download-dir-url": read + "/shadir",
    "upload-cache-url": write + "/shacache", "upload-dir-url": write + "/shadir",
    "signature-private-key-file": key, "signature-certificate-list": open(certificate).read()})
path = os.path.join(folder, "artifact")
with open(path, "rb") as f:
    client.upload(f, "test-key", meta="é & <>")
with open(path, "rb") as f:
    data = f.read()
sha512 = hashlib.sha512(data).hexdigest()
entry = next(client.select("test-key", {"meta": "é & <>"}))
assert entry["sha512"] == sha512, entry
print(json.dumps({"sha512": sha512, "same": client.download(sha512).read() == data}))
`;
