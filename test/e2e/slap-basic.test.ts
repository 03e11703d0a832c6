import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startOfflineRelease } from "../support/offline-release.js";
import { RunningSystem } from "../support/running-system.js";
import { SlaposNode } from "../support/slapos-node.js";
import { pythonToolchains, reasonToSkip } from "../support/toolchain.js";

const toolchains = await pythonToolchains();
/** From 1.26 on the POSTs made for a partition carry no Basic (slap-protocol.md §8.2). */
const older = "missing" in toolchains ? undefined : toolchains.find(({ slaposVersion }) => slaposVersion < "1.26");

describe.skipIf(reasonToSkip(toolchains) !== null || !older)(
  "a node of before slapos.core 1.26 with HTTP Basic",
  () => {
    let system: RunningSystem;
    let node: SlaposNode;
    let release: Awaited<ReturnType<typeof startOfflineRelease>>;

    beforeAll(async () => {
      if (!older) return;
      system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "warn" });
      release = await startOfflineRelease();
      const { createComputer } = await system.graphql<{ createComputer: { credential: string } }>(
        `mutation { createComputer(input: { reference: "COMP-1" }) { credential } }`,
      );
      const withPassword = (token: string) => `${system.slapUrl.replace("http://", `http://anybody:${token}@`)}/`;
      node = new SlaposNode({
        toolchain: older,
        computerId: "COMP-1",
        masterUrl: withPassword(createComputer.credential),
        clientMasterUrl: withPassword(system.adminToken),
        partitionCount: 2,
      });
    });

    afterAll(async () => {
      await node?.close();
      await release?.close();
      await system?.close();
    });

    test("formats, builds and runs an instance, and lists it by the links that it is given", async () => {
      for (const step of [() => node.format(), () => node.supply(release.url), () => node.software()]) {
        const result = await step();
        expect(result.code, result.stdout + result.stderr).toBe(0);
      }
      await node.request("web", release.url, "--parameters", "a=b");
      const ran = await node.instance();
      expect(ran.code, ran.stdout + ran.stderr).toBe(0);
      const { instances } = await system.graphql<{
        instances: { edges: { node: { reportedState: string; connectionParameters: object } }[] };
      }>("{ instances(first: 2) { edges { node { reportedState connectionParameters } } } }");
      expect(instances.edges.map((edge) => edge.node)).toEqual([
        { reportedState: "STARTED", connectionParameters: { "echo-a": "b" } },
      ]);
      const listed = await node.client("service", "list");
      expect(listed.stdout + listed.stderr).toContain("web");
    });
  },
);
