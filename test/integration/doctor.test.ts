import { spawn } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { afterAll, expect, inject, test } from "vitest";
import { freePort } from "../../common/embedded-postgres.js";
import { type MinioServer, startMinio } from "../support/minio-server.js";
import { minioBinary, reasonToSkip } from "../support/toolchain.js";

const command = path.resolve(import.meta.dirname, "../../dist/cli/slapgraph.js");
const folder = mkdtempSync("/tmp/sg-doctor-");
chmodSync(folder, 0o755);
const minioTool = await minioBinary();

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function doctor(environment: Record<string, string> = {}): Promise<{ code: number | null; said: string }> {
  const child = spawn(process.execPath, [command, "doctor"], {
    env: {
      PATH: process.env.PATH ?? "",
      SLAPGRAPH_DATA_DIR: folder,
      SLAPGRAPH_GATEWAY_PORT: "0",
      SLAPGRAPH_SLAP_PORT: "0",
      SLAPGRAPH_SHACACHE_PORT: "0",
      ...environment,
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString("utf8");
  });
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, said };
}

test("a configuration that works is well, with exit code 0", async () => {
  const { code, said } = await doctor({ DATABASE_URL: inject("postgresUrl") });
  expect(said).toContain("All is well.");
  expect(said).toContain("PostgreSQL 18");
  expect(code).toBe(0);
  expect((await doctor()).said).toContain("embedded database: PostgreSQL runs as");
});

test("each thing that is wrong is said in a sentence with what helps, all at once, with exit code 1", async () => {
  const busy = net.createServer();
  await new Promise<void>((resolve) => busy.listen(0, "127.0.0.1", resolve));
  const { port } = busy.address() as net.AddressInfo;
  writeFileSync(path.join(folder, "admin-token"), "secret-of-the-test\n");
  chmodSync(path.join(folder, "admin-token"), 0o644);
  const closed = await freePort();
  const { code, said } = await doctor({
    SLAPGRAPH_GATEWAY_PORT: String(port),
    DATABASE_URL: `postgres://somebody:hidden@127.0.0.1:${closed}/none`,
    S3_ENDPOINT: `http://127.0.0.1:${closed}`,
    S3_ACCESS_KEY: "key",
    S3_SECRET_KEY: "hidden",
  });
  busy.close();
  rmSync(path.join(folder, "admin-token"));
  expect(code).toBe(1);
  expect(said).toContain(`WRONG ports: SLAPGRAPH_GATEWAY_PORT: 127.0.0.1:${port} cannot be opened`);
  expect(said).toContain("WRONG secrets: Others can read");
  expect(said).toContain("chmod 600");
  expect(said).toContain(`WRONG database: DATABASE_URL: 127.0.0.1:${closed} cannot be used`);
  expect(said).toContain(`WRONG S3: S3_ENDPOINT: http://127.0.0.1:${closed} does not answer`);
  expect(said).toContain("4 wrong.");
  expect(said).not.toContain("hidden");
});

test("a wrong variable is named with what it accepts, and a port that two doors have", async () => {
  const { code, said } = await doctor({ SLAPGRAPH_SLAP_PORT: "many" });
  expect([code, said]).toEqual([1, expect.stringContaining("SLAPGRAPH_SLAP_PORT is wrong: it accepts a port number")]);
  const port = String(await freePort());
  const doubled = await doctor({ SLAPGRAPH_SLAP_PORT: port, SLAPGRAPH_SHACACHE_PORT: port });
  expect(doubled.said).toContain(`SLAPGRAPH_SHACACHE_PORT is ${port}, which another door has`);
});

test("a secret that is none, a folder of documents that is away, and a TLS port that is taken are found out", async () => {
  const busy = net.createServer();
  await new Promise<void>((resolve) => busy.listen(0, "127.0.0.1", resolve));
  const { port } = busy.address() as net.AddressInfo;
  const wrong = { "admin-token": "\n", "signing-keys.json": '{"keys":[]}', "certificate-authority.pem": "nothing" };
  for (const [name, text] of Object.entries(wrong)) {
    const file = path.join(folder, name);
    writeFileSync(file, text, { mode: 0o600 });
    const { code, said } = await doctor({
      SLAPGRAPH_TRUSTED_DOCUMENTS: `${folder}/none`,
      SLAPGRAPH_SHACACHE_TLS_PORT: String(port),
    });
    rmSync(file);
    expect(said).toContain(`WRONG secrets: ${file}`);
    expect(said).toContain("WRONG documents: SLAPGRAPH_TRUSTED_DOCUMENTS is wrong");
    expect(said).toContain(`WRONG ports: SLAPGRAPH_SHACACHE_TLS_PORT: 127.0.0.1:${port} cannot be opened`);
    expect(code).toBe(1);
  }
  busy.close();
});

test("a database user who may not create schemas is found out", async () => {
  const { Client } = await import("pg");
  const client = new Client({ connectionString: inject("postgresUrl") });
  await client.connect();
  await client.query("drop role if exists doctor_guest");
  await client.query("create role doctor_guest login password 'guest'");
  const url = new URL(inject("postgresUrl"));
  url.username = "doctor_guest";
  url.password = "guest";
  const { code, said } = await doctor({ DATABASE_URL: url.href });
  await client.query("drop role doctor_guest");
  await client.end();
  expect([code, said]).toEqual([1, expect.stringContaining("may not create schemas")]);
});

test.skipIf(reasonToSkip(minioTool) !== null)(
  "an S3 that refuses the keys is told from one that does not answer",
  async () => {
    if ("missing" in minioTool) return;
    const minio: MinioServer = await startMinio(minioTool.binary);
    const environment = { S3_ENDPOINT: minio.endpoint, S3_ACCESS_KEY: minio.accessKey };
    const well = await doctor({ ...environment, S3_SECRET_KEY: minio.secretKey });
    const refused = await doctor({ ...environment, S3_SECRET_KEY: "not-the-secret" });
    await minio.close();
    expect([well.code, well.said]).toEqual([0, expect.stringContaining("bucket slapgraph made at the first start")]);
    expect([refused.code, refused.said]).toEqual([
      1,
      expect.stringContaining("refuses S3_ACCESS_KEY and S3_SECRET_KEY"),
    ]);
  },
);
