import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { bucketOf, s3Environment, startMinio } from "../support/minio-server.js";
import { rawRequest } from "../support/raw-request.js";
import { RunningSystem } from "../support/running-system.js";
import { stores } from "../support/shacache-fixture.js";
import { minioBinary } from "../support/toolchain.js";
import { honest, sha512Of, startUpstream } from "../support/upstream-cache.js";
import { waitFor } from "../support/wait-for.js";

const minio = await minioBinary();

describe.each(stores)("on $store", ({ store, isSkipped }) => {
  test.skipIf(isSkipped)(
    "a cache that is killed in the middle of a pull keeps nothing of it, and pulls it anew",
    async () => {
      const bytes = randomBytes(30_000_000);
      const upstream = await startUpstream([bytes], (_, response) => {
        response.writeHead(200, { "content-length": bytes.length });
        response.write(bytes.subarray(0, 20_000_000));
      });
      const server = store === "MinIO" && "binary" in minio ? await startMinio(minio.binary) : undefined;
      const system = await RunningSystem.start({
        SLAPGRAPH_LOG_LEVEL: "error",
        SLAPGRAPH_SHACACHE_UPSTREAMS: upstream.url,
        ...s3Environment(server),
      });
      const target = `/shacache/${sha512Of(bytes)}`;
      let readBytes = 0;
      const reading = http.get(`${system.shacacheUrl}${target}`, { agent: false }, (response) => {
        response.on("data", (chunk: Buffer) => {
          readBytes += chunk.length;
        });
        response.on("error", () => undefined);
      });
      reading.on("error", () => undefined);
      await waitFor(() => readBytes > 15_000_000);
      await system.kill();
      upstream.answer = honest;
      await system.start();

      const left = () =>
        readdirSync(system.dataDir, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile() && /\/(blobs|pulling)(\/|$)/.test(entry.parentPath))
          .map((entry) => path.join(entry.parentPath, entry.name));
      expect(left()).toEqual([]);
      if (server) expect(await bucketOf(server).names()).toEqual([]);
      const answer = await rawRequest(system.shacacheUrl, "GET", target);
      expect(answer.body.equals(bytes)).toBe(true);
      await system.close();
      await server?.close();
      await upstream.close();
    },
    // It starts the system twice, which a busy machine takes its time for.
    180_000,
  );
});
