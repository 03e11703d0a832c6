import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startOfflineRelease, treeRelease } from "../support/offline-release.js";
import { RunningSystem } from "../support/running-system.js";
import { type CommandResult, SlaposNode } from "../support/slapos-node.js";
import { type PythonToolchain, pythonToolchains, reasonToSkip } from "../support/toolchain.js";

const toolchains = await pythonToolchains();
const skipped = reasonToSkip(toolchains);
const generations = "missing" in toolchains ? [{ slaposVersion: "none" } as PythonToolchain] : toolchains;

interface InstanceView {
  title: string;
  reference: string;
  requestedState: string;
  reportedState: string;
  shared: boolean;
  connectionParameters: Record<string, string>;
  partition: { key: string; state: string } | null;
  parent: { title: string } | null;
}

/** A whole life of one node, step by step: each test goes on from where the one before it ended. */
describe.skipIf(skipped !== null).each(generations)(
  "the whole life of an unmodified node, slapos.core $slaposVersion",
  (toolchain) => {
    let system: RunningSystem;
    let node: SlaposNode;
    let release: Awaited<ReturnType<typeof startOfflineRelease>>;

    beforeAll(async () => {
      system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "debug" });
      release = await startOfflineRelease(treeRelease);
      const { createComputer } = await system.graphql<{ createComputer: { masterUrl: string } }>(
        `mutation { createComputer(input: { reference: "COMP-1", title: "bench" }) { masterUrl } }`,
      );
      const clientMasterUrl = `${system.slapUrl}/k/${system.adminToken}/`;
      const { masterUrl } = createComputer;
      node = new SlaposNode({ toolchain, computerId: "COMP-1", masterUrl, clientMasterUrl, partitionCount: 4 });
    });

    afterAll(async () => {
      await node?.close();
      await release?.close();
      await system?.close();
    });

    const done = (result: CommandResult, ...codes: number[]) =>
      expect(codes.length > 0 ? codes : [0], result.stdout + result.stderr).toContain(result.code);

    const partitions = async () =>
      (
        await system.graphql<{
          computer: { partitions: { edges: { node: { key: string; state: string; message: string | null } }[] } };
        }>(`{ computer(reference: "COMP-1") { partitions(first: 100) { edges { node { key state message } } } } }`)
      ).computer.partitions.edges.map((edge) => edge.node);

    const instances = async () => {
      const { instances } = await system.graphql<{ instances: { edges: { node: InstanceView }[] } }>(
        `{ instances(first: 100) { edges { node { title reference requestedState reportedState shared connectionParameters
           partition { key state } parent { title } } } } }`,
      );
      return new Map(instances.edges.map((edge) => [edge.node.title, edge.node]));
    };

    const timesProcessed = (key: string) => {
      const file = node.partitionPath(key.split("/")[1] ?? "", "processed");
      return existsSync(file) ? readFileSync(file, "utf8").split("\n").length - 1 : 0;
    };

    /** What came in at the SLAP door during some work, from its log. */
    const callsDuring = async (work: () => Promise<unknown>) => {
      const mark = system.output.length;
      await work();
      const lines = system.output
        .slice(mark)
        .split("\n")
        .filter((line) => line.includes("the SLAP door answered"));
      return lines.flatMap(
        (line) => /"method":"(\w+)","target":"[^"]*\/([\w.]+)(?:\?[^"]*)?"/.exec(line)?.slice(1, 3).join(" ") ?? [],
      );
    };

    /** Runs the node as cron does, until a run has nothing to say. */
    const settle = async () => {
      for (let turn = 0; turn < 8; turn++) {
        const calls = await callsDuring(async () => done(await node.instance(), 0, 1, 2));
        if (!calls.some((call) => call.startsWith("POST"))) return;
      }
      throw new Error("the node does not settle");
    };

    test("partitions come and go with each format, and none that is allocated is lost", async () => {
      done(await node.format());
      expect((await partitions()).map(({ key, state }) => [key, state])).toEqual(
        [0, 1, 2, 3].map((number) => [`COMP-1/slappart${number}`, "FREE"]),
      );
      done(await node.request("early", release.url, "--type", "leaf"), 2, 0);
      node.setPartitionCount(5);
      done(await node.format());
      expect(await partitions()).toHaveLength(5);
      expect((await partitions())[0]).toMatchObject({ key: "COMP-1/slappart0", state: "ALLOCATED" });
    });

    test("a build that fails says why, and the next one that works is AVAILABLE", async () => {
      writeFileSync(path.join(release.folder, "fail"), "");
      done(await node.supply(release.url));
      done(await node.software(), 1);
      const installation = async () =>
        (
          await system.graphql<{
            computer: { installations: { edges: { node: { reportedState: string; errorLog: string } }[] } };
          }>(
            `{ computer(reference: "COMP-1") { installations(first: 1) { edges { node { reportedState errorLog requestedState } } } } }`,
          )
        ).computer.installations.edges[0]?.node;
      expect(await installation()).toMatchObject({
        reportedState: "ERROR",
        errorLog: expect.stringContaining("this build fails: <é> & co"),
      });
      rmSync(path.join(release.folder, "fail"));
      done(await node.software());
      expect(await installation()).toMatchObject({ reportedState: "AVAILABLE", errorLog: null });
    });

    test("a tree with a child and a shared instance converges, each with what the others published", async () => {
      done(await node.request("host", release.url, "--type", "host"), 0, 2);
      const parameters = ["--parameters", "children=a", "shared=s1", "mood=& < > é"];
      done(await node.request("root", release.url, ...parameters), 0, 2);
      await settle();
      const all = await instances();
      expect([...all.keys()].sort()).toEqual(["a", "early", "host", "root", "s1"]);
      expect(all.get("a")).toMatchObject({
        reportedState: "STARTED",
        parent: { title: "root" },
        connectionParameters: { colour: "blue & <red>", hello: "from a" },
      });
      expect(all.get("s1")).toMatchObject({
        shared: true,
        parent: { title: "root" },
        partition: { key: all.get("host")?.partition?.key },
        connectionParameters: { served: "s1 by host" },
      });
      expect(all.get("root")?.connectionParameters).toMatchObject({
        "child-a": "from a",
        "shared-s1": "s1 by host",
        mood: "& < > é",
      });
      expect(all.get("host")?.connectionParameters.hosted).toBe("s1");
    });

    test("a settled node asks twice and posts nothing", async () => {
      const calls = await callsDuring(() => node.instance());
      expect(calls).toEqual(["GET getHateoasUrl", "GET getFullComputerInformation"]);
    });

    test("changed parameters are processed in their own partition only", async () => {
      const keys = (await partitions()).map(({ key }) => key);
      const before = keys.map(timesProcessed);
      done(await node.request("early", release.url, "--type", "leaf", "--parameters", "colour=green"));
      done(await node.instance());
      expect(keys.map(timesProcessed)).toEqual(before.map((times, index) => (index === 0 ? times + 1 : times)));
      expect((await instances()).get("early")?.connectionParameters).toMatchObject({ colour: "green" });
    });

    test("a failing promise is an error, its bang processes the tree again, and healing ends it", async () => {
      const key = (await instances()).get("a")?.partition?.key ?? "";
      const broken = node.partitionPath(key.split("/")[1] ?? "", "broken");
      writeFileSync(broken, "");
      done(await node.instance());
      expect((await partitions()).find((one) => one.key === key)).toMatchObject({
        state: "ERROR",
        message: expect.stringContaining("the file is broken"),
      });
      done(await node.instance(), 2);
      rmSync(broken);
      done(await node.instance());
      expect((await partitions()).find((one) => one.key === key)).toMatchObject({ state: "STARTED" });
    });

    test("the watchdog's bang processes its tree again, a computer's bang everything", async () => {
      await settle();
      const root = (await instances()).get("root")?.partition?.key ?? "";
      const keys = (await partitions()).filter(({ state }) => state === "STARTED").map(({ key }) => key);
      const before = new Map(keys.map((key) => [key, timesProcessed(key)]));
      const barked = await node.watchdog(root.split("/")[1] ?? "");
      const { partition } = await system.graphql<{ partition: { lastBang: { message: string } } }>(
        `query ($key: String!) { partition(key: $key) { lastBang { message } } }`,
        { key: root },
      );
      expect(partition.lastBang.message, barked.stdout).toContain("sleeper-on-watch");
      done(await node.instance());
      expect(timesProcessed(root)).toBeGreaterThan(before.get(root) ?? 0);
      expect(timesProcessed("COMP-1/slappart0")).toBe(before.get("COMP-1/slappart0"));
      done(await node.bang("everything again"));
      done(await node.instance());
      for (const key of keys) expect(timesProcessed(key), key).toBeGreaterThan(before.get(key) ?? 0);
    });

    test("the command line lists and shows services and computers", async () => {
      const listed = await node.client("service", "list");
      done(listed);
      for (const title of ["early", "host", "root"]) expect(listed.stdout + listed.stderr).toContain(title);
      expect(listed.stdout + listed.stderr).not.toMatch(/^\s*a\s/m);
      const info = await node.client("service", "info", "root");
      done(info);
      const shown = JSON.parse((info.stdout + info.stderr).replace(/^[^{]*/, "")) as Record<string, unknown>;
      expect(shown).toMatchObject({
        "software-url": release.url,
        "requested-state": "started",
        shared: false,
        status: "green",
        "instance-parameters": { children: "a", mood: "& < > é" },
        "connection-parameters": { "shared-s1": "s1 by host" },
      });
      done(await node.client("service", "info", "nothing of the kind"), 2);
      const computers = await node.client("computer", "list");
      done(computers);
      expect(computers.stdout + computers.stderr).toContain("COMP-1");
      const computer = await node.client("computer", "info", "COMP-1");
      done(computer);
      expect(computer.stdout + computer.stderr).toContain("bench");
      const token = await node.client("computer", "token");
      done(token);
      expect(token.stdout + token.stderr).toMatch(/reg_[\w-]{20,}/);
    });

    test("a rename is seen by the node, and again by its name", async () => {
      const { partition } = (await instances()).get("early") as InstanceView;
      const [computerId, partitionId] = partition?.key.split("/") ?? [];
      const url = `${system.slapUrl}/k/${system.adminToken}/`;
      done(await node.python(renameClient, url, computerId ?? "", partitionId ?? "", "late"));
      done(await node.instance());
      expect((await instances()).get("late")?.connectionParameters.hello).toBe("from late");
    });

    test("a stopped root stops its tree, and a started one starts it", async () => {
      done(
        await node.request(
          "root",
          release.url,
          "--parameters",
          "children=a",
          "shared=s1",
          "mood=& < > é",
          "--state",
          "stopped",
        ),
      );
      await settle();
      let all = await instances();
      for (const title of ["root", "a"])
        expect(all.get(title)).toMatchObject({ requestedState: "STOPPED", reportedState: "STOPPED" });
      expect(all.get("s1")?.requestedState).toBe("STOPPED");
      expect(all.get("host")?.connectionParameters.hosted).toBe("");
      done(
        await node.request(
          "root",
          release.url,
          "--parameters",
          "children=a",
          "shared=s1",
          "mood=& < > é",
          "--state",
          "started",
        ),
      );
      await settle();
      all = await instances();
      for (const title of ["root", "a"])
        expect(all.get(title)).toMatchObject({ requestedState: "STARTED", reportedState: "STARTED" });
      expect(all.get("host")?.connectionParameters.hosted).toBe("s1");
    });

    test("usage that the node reports is kept and can be read", async () => {
      done(await node.report());
      const { computer } = await system.graphql<{
        computer: { usageReports: { edges: { node: { tioxml: string } }[] } };
      }>(`{ computer(reference: "COMP-1") { usageReports(last: 1) { edges { node { at tioxml } } } } }`);
      expect(computer.usageReports.edges[0]?.node.tioxml).toContain("<journal>");
    });

    test("a destroyed root goes after its children, and node report frees its partitions", async () => {
      const before = await instances();
      const held = ["root", "a"].map((title) => before.get(title)?.partition?.key ?? "");
      done(await node.request("root", release.url, "--state", "destroyed"), 0, 2, 1);
      await settle();
      // Children first: the root's partition is freed by a later report than its child's.
      for (let turn = 0; turn < 2; turn++) done(await node.report());
      const states = new Map((await partitions()).map(({ key, state }) => [key, state]));
      for (const key of held) expect(states.get(key), key).toBe("FREE");
      const after = await instances();
      expect([...after.keys()].sort()).toEqual(["host", "late"]);
      done(await node.instance());
      expect((await instances()).get("host")?.connectionParameters.hosted).toBe("");
    });

    test("a removed release is destroyed on the node, and no longer listed to it", async () => {
      done(await node.remove(release.url));
      done(await node.software());
      const calls = await callsDuring(() => node.software());
      expect(calls.filter((call) => call.startsWith("POST"))).toEqual([]);
    });

    test("no token shows in the log", () => {
      expect(system.output).toContain("/k/");
      expect(system.output).not.toContain(system.adminToken);
    });
  },
);

const renameClient = `import sys
from slapos import slap
url, computer, partition, title = sys.argv[1:]
client = slap.slap()
client.initializeConnection(url)
client.registerComputerPartition(computer, partition).rename(title)
`;
