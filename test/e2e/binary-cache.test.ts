import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type MinioServer, startMinio } from "../support/minio-server.js";
import { startOfflineRelease } from "../support/offline-release.js";
import { RunningSystem } from "../support/running-system.js";
import { createSigningKey, type SigningKey } from "../support/signing-key.js";
import { SlaposNode } from "../support/slapos-node.js";
import { minioBinary, pythonToolchain, reasonToSkip } from "../support/toolchain.js";

const toolchain = await pythonToolchain();
const minio = await minioBinary();
// slapgrid asks the compiler which machine this is, and without it shares nothing.
const hasCompiler = ["/usr/bin/gcc", "/bin/gcc"].some((file) => existsSync(file));
const stores = [
  { store: "files", isSkipped: false },
  { store: "MinIO", isSkipped: reasonToSkip(minio) !== null },
];

/** Real nodes share what they compile: slapgrid's own binary cache, as it is configured in slapos.cfg. */
for (const { store, isSkipped } of stores) {
  describe.skipIf(isSkipped || !hasCompiler || reasonToSkip(toolchain) !== null)(
    `nodes that share builds through ${store}`,
    () => {
      let system: RunningSystem;
      let server: MinioServer | undefined;
      let release: Awaited<ReturnType<typeof startOfflineRelease>>;
      let builder: SigningKey;
      const nodes: SlaposNode[] = [];
      // A build knows its place, so on all nodes that share it the place is the same.
      const softwareRoot = mkdtempSync("/tmp/sw-");
      const keys = mkdtempSync("/tmp/sk-");
      chmodSync(keys, 0o755);

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
        for (const folder of [softwareRoot, keys]) rmSync(folder, { recursive: true, force: true });
      });

      /** A node of its own that reads the cache, and whose own credential uploads to it. */
      async function nodeWith(computerId: string, trusted: string, key: string | null): Promise<SlaposNode> {
        if ("missing" in toolchain) throw new Error(toolchain.missing);
        const { createComputer } = await system.graphql<{ createComputer: { credential: string; masterUrl: string } }>(
          "mutation ($reference: String!) { createComputer(input: { reference: $reference }) { credential masterUrl } }",
          { reference: computerId },
        );
        const { credential, masterUrl } = createComputer;
        // The machines are one here: what the node before this one installed is not on this one.
        for (const name of readdirSync(softwareRoot)) rmSync(path.join(softwareRoot, name), { recursive: true });
        const upload = `${system.shacacheUrl}/k/${credential}`;
        const keyFile = path.join(keys, computerId);
        if (key !== null) writeFileSync(keyFile, key, { mode: 0o644 });
        const uploading = [
          `upload-binary-cache-url = ${upload}/shacache`,
          `upload-binary-dir-url = ${upload}/shadir`,
          `signature-private-key-file = ${keyFile}`,
        ];
        const moreConfiguration = [
          "[networkcache]",
          `download-binary-cache-url = ${system.shacacheUrl}/shacache`,
          `download-binary-dir-url = ${system.shacacheUrl}/shadir`,
          ...(key === null ? [] : uploading),
          `signature-certificate-list =\n${trusted.trim().replaceAll(/^/gm, "  ")}\n`,
        ].join("\n");
        const clientMasterUrl = `${system.slapUrl}/k/${system.adminToken}/`;
        const options = { toolchain, computerId, masterUrl, clientMasterUrl, partitionCount: 1 };
        const node = new SlaposNode({ ...options, softwareRoot, moreConfiguration });
        nodes.push(node);
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
        const isBuilt = log.includes("Installing instance");
        return { isBuilt, isDownloaded: log.includes("Extracting archive of cached software release"), log };
      }

      test("node A builds and uploads what it built, signed", async () => {
        const node = await nodeWith("COMP-A", builder.certificate, builder.key);
        const { isBuilt, isDownloaded, log } = await install(node);
        expect([isBuilt, isDownloaded], log).toEqual([true, false]);
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
        const { isBuilt, isDownloaded, log } = await install(await nodeWith("COMP-C", other.certificate, null));
        expect([isBuilt, isDownloaded], log).toEqual([true, false]);
        expect(await reportedState("COMP-C")).toBe("AVAILABLE");
      });

      const reportedState = async (reference: string) => {
        const query = `query ($reference: String!) { computer(reference: $reference) { installations(first: 1) { edges { node { reportedState } } } } }`;
        const { computer } = await system.graphql<{
          computer: { installations: { edges: { node: { reportedState: string } }[] } };
        }>(query, { reference });
        return computer.installations.edges[0]?.node.reportedState;
      };
    },
  );
}
