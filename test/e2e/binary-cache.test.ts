import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type MinioServer, startMinio } from "../support/minio-server.js";
import { startOfflineRelease } from "../support/offline-release.js";
import { RunningSystem } from "../support/running-system.js";
import { createSigningKey, type SigningKey } from "../support/signing-key.js";
import { SlaposNode } from "../support/slapos-node.js";
import { minioBinary, pythonToolchain, reasonToSkip } from "../support/toolchain.js";

const toolchain = await pythonToolchain();
const minio = await minioBinary();
const stores = [
  { store: "files", isSkipped: false },
  { store: "MinIO", isSkipped: reasonToSkip(minio) !== null },
];

/** Real nodes share what they compile: slapgrid's own binary cache, as it is configured in slapos.cfg. */
for (const { store, isSkipped } of stores) {
  describe.skipIf(isSkipped || reasonToSkip(toolchain) !== null)(`nodes that share builds through ${store}`, () => {
    let system: RunningSystem;
    let server: MinioServer | undefined;
    let release: Awaited<ReturnType<typeof startOfflineRelease>>;
    let builder: SigningKey;
    const nodes: SlaposNode[] = [];
    const softwareRoot = mkdtempSync("/tmp/sw-");

    beforeAll(async () => {
      if (store === "MinIO" && !("missing" in minio)) server = await startMinio(minio.binary);
      const s3 = server
        ? { S3_ENDPOINT: server.endpoint, S3_ACCESS_KEY: server.accessKey, S3_SECRET_KEY: server.secretKey }
        : {};
      system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "warn", ...s3 });
      release = await startOfflineRelease();
      builder = await createSigningKey("the builder");
    });

    afterAll(async () => {
      for (const node of nodes) await node.close();
      await release?.close();
      await system?.close();
      await server?.close();
      rmSync(softwareRoot, { recursive: true, force: true });
    });

    /** A node of its own that reads the cache, and whose own credential uploads to it. */
    async function nodeWith(computerId: string, trusted: string, key: string | null): Promise<SlaposNode> {
      if ("missing" in toolchain) throw new Error(toolchain.missing);
      const { createComputer } = await system.graphql<{ createComputer: { credential: string; masterUrl: string } }>(
        "mutation ($reference: String!) { createComputer(input: { reference: $reference }) { credential masterUrl } }",
        { reference: computerId },
      );
      const { credential, masterUrl } = createComputer;
      const node = new SlaposNode({
        toolchain,
        computerId,
        masterUrl,
        clientMasterUrl: `${system.slapUrl}/k/${system.adminToken}/`,
        partitionCount: 1,
        // A build knows its place, so what is shared has the same one on every node.
        softwareRoot,
      });
      nodes.push(node);
      const upload = `${system.shacacheUrl}/k/${credential}`;
      const lines = [
        "[networkcache]",
        `download-binary-cache-url = ${system.shacacheUrl}/shacache`,
        `download-binary-dir-url = ${system.shacacheUrl}/shadir`,
        ...(key === null
          ? []
          : [
              `upload-binary-cache-url = ${upload}/shacache`,
              `upload-binary-dir-url = ${upload}/shadir`,
              `signature-private-key-file = ${node.writeFile("builder.key", key)}`,
            ]),
        `signature-certificate-list =\n${trusted.trim().replaceAll(/^/gm, "  ")}`,
      ];
      node.addConfiguration(`${lines.join("\n")}\n`);
      const formatted = await node.format();
      expect(formatted.code, formatted.stderr).toBe(0);
      return node;
    }

    /** Has the node install the release; whether it built it, by what its log says and what the build leaves behind. */
    async function install(node: SlaposNode): Promise<{ isBuilt: boolean; isDownloaded: boolean; log: string }> {
      const supplied = await node.supply(release.url);
      expect(supplied.code, supplied.stderr).toBe(0);
      const ran = await node.software();
      const log = ran.stdout + ran.stderr;
      expect(ran.code, log).toBe(0);
      return { isBuilt: log.includes("Running bootstrap"), isDownloaded: log.includes("binary from network cache"), log };
    }

    test("node A builds and uploads what it built, signed", async () => {
      const node = await nodeWith("COMP-A", builder.certificate, builder.key);
      const { isBuilt, log } = await install(node);
      expect(isBuilt, log).toBe(true);
      const query = `{ artifacts(first: 10) { edges { node { uploadedBy releases { url }
        entries(first: 10) { edges { node { isSigned createdBy metadata } } } } } } }`;
      const { artifacts } = await system.graphql<{
        artifacts: {
          edges: {
            node: {
              uploadedBy: string;
              releases: { url: string }[];
              entries: { edges: { node: { isSigned: boolean; createdBy: string } }[] };
            };
          }[];
        };
      }>(query);
      expect(artifacts.edges.map(({ node: artifact }) => artifact)).toMatchObject([
        {
          uploadedBy: "COMP-A",
          releases: [{ url: release.url }],
          entries: { edges: [{ node: { isSigned: true, createdBy: "COMP-A" } }] },
        },
      ]);
    });

    test("node B, which trusts A's certificate, installs it without building", async () => {
      const { isBuilt, isDownloaded, log } = await install(await nodeWith("COMP-B", builder.certificate, null));
      expect([isDownloaded, isBuilt], log).toEqual([true, false]);
      expect(await reportedState("COMP-B")).toBe("AVAILABLE");
    });

    test("node C, which trusts another certificate, builds", async () => {
      const other = await createSigningKey("somebody else");
      const { isBuilt, log } = await install(await nodeWith("COMP-C", other.certificate, null));
      expect(isBuilt, log).toBe(true);
      expect(await reportedState("COMP-C")).toBe("AVAILABLE");
    });

    const reportedState = async (reference: string) => {
      const query = `query ($reference: String!) { computer(reference: $reference) { installations(first: 1) { edges { node { reportedState } } } } }`;
      const { computer } = await system.graphql<{
        computer: { installations: { edges: { node: { reportedState: string } }[] } };
      }>(query, { reference });
      return computer.installations.edges[0]?.node.reportedState;
    };
    void existsSync;
    void readFileSync;
  });
}
