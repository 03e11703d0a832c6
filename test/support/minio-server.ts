import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { buffer } from "node:stream/consumers";
import { Client } from "minio";
import type { S3Config } from "../../common/config.js";
import { freePort } from "../../common/embedded-postgres.js";
import { unfinishedUploads } from "../../shacache/s3-blob-store.js";
import { waitFor } from "./wait-for.js";

export interface MinioServer extends S3Config {
  readonly pid: number;
  /** Stops answering, as a server that is cut off does; its data stays. */
  kill(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

/** What makes a Slapgraph store its blobs there; nothing, and so files, without one. */
export function s3Environment(server: S3Config | undefined): Record<string, string> {
  if (!server) return {};
  const { endpoint, accessKey, secretKey, bucket } = server;
  return { S3_ENDPOINT: endpoint, S3_ACCESS_KEY: accessKey, S3_SECRET_KEY: secretKey, S3_BUCKET: bucket };
}

/** A client of its own, to look and to meddle from outside. */
export function s3ClientOf({ endpoint, accessKey, secretKey }: S3Config): Client {
  const { hostname, port } = new URL(endpoint);
  return new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey });
}

/** A real MinIO on loopback with a folder and credentials of its own. */
export async function startMinio(
  binary: string,
  {
    parent = "/tmp",
    accessKey = randomBytes(8).toString("hex"),
    secretKey = randomBytes(16).toString("hex"),
  }: { parent?: string; accessKey?: string; secretKey?: string } = {},
): Promise<MinioServer> {
  const folder = mkdtempSync(`${parent}/sg-minio-`);
  const port = await freePort();
  const endpoint = `http://127.0.0.1:${port}`;
  let server: ReturnType<typeof spawn> | undefined;
  const kill = async () => {
    if (!server || server.exitCode !== null) return;
    const exited = new Promise((resolve) => server?.once("exit", resolve));
    server.kill("SIGKILL");
    await exited;
  };
  const start = async () => {
    server = spawn(
      binary,
      ["server", "--quiet", "--address", `127.0.0.1:${port}`, "--console-address", "127.0.0.1:0", folder],
      {
        env: { ...process.env, MINIO_ROOT_USER: accessKey, MINIO_ROOT_PASSWORD: secretKey, HOME: folder },
        stdio: "ignore",
      },
    );
    await waitFor(
      () =>
        fetch(`${endpoint}/minio/health/ready`).then(
          (response) => response.status,
          () => 0,
        ),
      {
        until: (status) => status === 200,
        timeoutMs: 20_000,
        what: "MinIO",
      },
    );
  };
  await start();
  return {
    endpoint,
    accessKey,
    secretKey,
    bucket: "slapgraph",
    get pid() {
      return server?.pid ?? 0;
    },
    kill,
    start,
    close: async () => {
      await kill();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** A bucket from outside, behind everybody's back. */
export function bucketOf(server: S3Config) {
  const { bucket } = server;
  const client = s3ClientOf(server);
  return {
    async change(name: string, by: (bytes: Buffer) => Buffer): Promise<void> {
      const changed = by(await buffer(await client.getObject(bucket, name)));
      await client.putObject(bucket, name, changed, changed.length);
    },
    async names(): Promise<string[]> {
      const names: string[] = [];
      for await (const { name } of client.listObjectsV2(bucket, "", true) as AsyncIterable<{ name: string }>)
        names.push(name);
      for await (const { key } of unfinishedUploads(client, bucket)) names.push(`unfinished ${key}`);
      return names;
    },
  };
}
