import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bucketOf, type MinioServer, s3Environment, startMinio } from "../support/minio-server.js";
import { RunningSystem } from "../support/running-system.js";
import { minioBinary, reasonToSkip } from "../support/toolchain.js";
import { waitFor } from "../support/wait-for.js";

const mebibyte = 1024 * 1024;
const minio = await minioBinary();
const stores = [
  { store: "files", isSkipped: false },
  { store: "MinIO", isSkipped: reasonToSkip(minio) !== null },
];

for (const { store, isSkipped } of stores) {
  describe.skipIf(isSkipped)(`the whole system with its blobs in ${store}`, () => {
    let system: RunningSystem;
    let server: MinioServer | undefined;

    beforeAll(async () => {
      server = store === "MinIO" && !("missing" in minio) ? await startMinio(minio.binary) : undefined;
      system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error", ...s3Environment(server) });
    });

    afterAll(async () => {
      await system?.close();
      await server?.close();
    });

    const target = () => `/k/${system.adminToken}/shacache`;

    /** All that the store holds, what is unfinished included. */
    async function storedNames(): Promise<string[]> {
      if (!server) {
        const entries = readdirSync(`${system.dataDir}/blobs`, { recursive: true, withFileTypes: true });
        return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
      }
      return bucketOf(server).names();
    }

    test("killed in the middle of an upload, it leaves nothing that can be read, and nothing at all after the next start", async () => {
      const bytes = randomBytes(64 * mebibyte);
      const sha512 = createHash("sha512").update(bytes).digest("hex");
      const before = await storedNames();
      const { hostname, port } = new URL(system.shacacheUrl);
      const socket = net.connect(Number(port), hostname).on("error", () => undefined);
      socket.write(`POST ${target()} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n\r\n`);
      socket.write(bytes.subarray(0, 40 * mebibyte));
      await waitFor(storedNames, { until: (names) => names.length > before.length, what: "a part of it stored" });
      await system.kill();
      socket.destroy();
      await system.start();
      expect((await fetch(`${system.shacacheUrl}/shacache/${sha512}`)).status).toBe(404);
      expect(await storedNames()).toEqual(before);
      const again = await fetch(`${system.shacacheUrl}${target()}`, { method: "POST", body: bytes });
      expect([again.status, await again.text()]).toEqual([201, sha512]);
    });

    test("what was answered with 201 is there after a kill, blobs and entries", async () => {
      const stored: string[] = [];
      for (const sizeBytes of [100, 100_000, 12 * mebibyte]) {
        const bytes = randomBytes(sizeBytes);
        const answer = await fetch(`${system.shacacheUrl}${target()}`, { method: "POST", body: bytes });
        stored.push(await answer.text());
        const body = JSON.stringify([JSON.stringify({ sha512: stored.at(-1) }), ""]);
        const key = `${system.shacacheUrl}/k/${system.adminToken}/shadir/durable-${sizeBytes}`;
        expect((await fetch(key, { method: "PUT", body })).status).toBe(201);
        await system.kill();
        await system.start();
      }
      for (const [index, sizeBytes] of [100, 100_000, 12 * mebibyte].entries()) {
        const blob = await fetch(`${system.shacacheUrl}/shacache/${stored[index]}`);
        expect(
          createHash("sha512")
            .update(Buffer.from(await blob.arrayBuffer()))
            .digest("hex"),
        ).toBe(stored[index]);
        expect((await fetch(`${system.shacacheUrl}/shadir/durable-${sizeBytes}`)).status).toBe(200);
      }
    });

    test("its memory does not grow with a blob, up or down", async () => {
      const peakOf = async (work: () => Promise<unknown>) => {
        const [pid] = system.pids;
        // Linux forgets the peak that was.
        writeFileSync(`/proc/${pid}/clear_refs`, "5");
        await work();
        return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
      };
      const block = randomBytes(4 * mebibyte);
      const upload = (blocks: number) =>
        new Promise<string>((resolve, reject) => {
          const headers = { "content-length": String(blocks * block.length) };
          const request = http.request(`${system.shacacheUrl}${target()}`, { method: "POST", headers }, (response) => {
            response.setEncoding("utf8").once("data", resolve);
          });
          request.once("error", reject);
          let sent = 0;
          const more = () => {
            while (sent < blocks) {
              // No two uploads are the same.
              const fits = request.write(sent === 0 ? Buffer.concat([randomBytes(8), block.subarray(8)]) : block);
              sent++;
              if (!fits && sent < blocks) return void request.once("drain", more);
            }
            request.end();
          };
          more();
        });
      const download = async (sha512: string) => {
        let bytes = 0;
        const response = await fetch(`${system.shacacheUrl}/shacache/${sha512}`);
        for await (const chunk of response.body ?? []) bytes += chunk.length;
        return bytes;
      };
      // What a process keeps once it has worked is not what a blob takes.
      for (let turn = 0; turn < 4; turn++) await download(await upload(16));
      const digests: string[] = [];
      const small = await peakOf(async () => digests.push(await upload(1)));
      const smallDown = await peakOf(() => download(digests[0] ?? ""));
      const large = await peakOf(async () => digests.push(await upload(256)));
      const largeDown = await peakOf(async () => expect(await download(digests[1] ?? "")).toBe(1024 * mebibyte));
      const shown = `MiB: 4 MiB up ${small}, down ${smallDown}; 1 GiB up ${large}, down ${largeDown}`;
      process.stderr.write(`peak memory on ${store}, ${shown}\n`);
      expect(large - small, shown).toBeLessThan(128);
      expect(largeDown - smallDown, shown).toBeLessThan(128);
    }, 240_000);
  });
}
