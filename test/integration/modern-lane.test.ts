import { createHash, randomBytes } from "node:crypto";
import { readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommand } from "../support/command.js";
import { type MinioServer, s3ClientOf, s3Environment, startMinio } from "../support/minio-server.js";
import { RunningSystem } from "../support/running-system.js";
import { minioBinary, reasonToSkip } from "../support/toolchain.js";

const minio = await minioBinary();
const digest = (bytes: Buffer) => createHash("sha512").update(bytes).digest("hex");

describe.each(["files", "MinIO"])("the modern lane, on %s", (storeName) => {
  const skipped = storeName === "MinIO" && reasonToSkip(minio) !== null;
  const bytes = randomBytes(3_000_000);
  const sha512 = digest(bytes);
  let system: RunningSystem;
  let server: MinioServer | undefined;

  beforeAll(async () => {
    if (skipped) return;
    if (storeName === "MinIO" && "binary" in minio) server = await startMinio(minio.binary);
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error", ...s3Environment(server) });
    expect((await put(sha512, bytes)).status).toBe(201);
  });

  afterAll(async () => {
    await system?.close();
    await server?.close();
  });

  const call = (method: string, name: string, headers: Record<string, string> = {}, body?: Buffer) =>
    fetch(`${system.shacacheUrl}/shacache/${name}`, {
      method,
      headers,
      redirect: "manual",
      ...(body ? { body: new Uint8Array(body) } : {}),
    });
  const put = (name: string, body: Buffer, headers: Record<string, string> = {}) =>
    call("PUT", name, { authorization: `Bearer ${system.adminToken}`, ...headers }, body);

  test.skipIf(skipped)("HEAD says what GET would, and sends nothing", async () => {
    const [head, get] = [await call("HEAD", sha512), await call("GET", sha512)];
    expect(Buffer.from(await get.arrayBuffer()).equals(bytes)).toBe(true);
    for (const name of ["content-length", "etag", "cache-control", "accept-ranges", "repr-digest", "content-type"])
      expect([name, head.headers.get(name)]).toEqual([name, get.headers.get(name)]);
    expect(head.headers.get("content-length")).toBe(String(bytes.length));
    expect(head.headers.get("etag")).toBe(`"${sha512}"`);
    expect(head.headers.get("cache-control")).toBe("public, max-age=31536000, immutable");
    expect(head.headers.get("repr-digest")).toBe(`sha-512=:${Buffer.from(sha512, "hex").toString("base64")}:`);
    expect((await call("HEAD", "0".repeat(128))).status).toBe(404);
    expect((await call("HEAD", "no-digest")).status).toBe(404);
  });

  test.skipIf(skipped)("a client that has it already is told so, and one that wants another gets none", async () => {
    for (const method of ["GET", "HEAD"]) {
      const same = await call(method, sha512, { "if-none-match": `W/"${sha512}"` });
      expect([same.status, same.headers.get("etag"), await same.text()]).toEqual([304, `"${sha512}"`, ""]);
      expect((await call(method, sha512, { "if-none-match": '"other"' })).status).toBe(200);
      expect((await call(method, sha512, { "if-match": '"other"' })).status).toBe(412);
      expect((await call(method, sha512, { "if-match": `"${sha512}"` })).status).toBe(200);
      expect((await call(method, "0".repeat(128), { "if-match": "*" })).status).toBe(404);
    }
  });

  test.skipIf(skipped)("ranges are exact, a suffix too, and one beyond the end is 416 with the size", async () => {
    const ranged = async (range: string, more: Record<string, string> = {}) => {
      const answer = await call("GET", sha512, { range, ...more });
      return {
        status: answer.status,
        at: answer.headers.get("content-range"),
        body: Buffer.from(await answer.arrayBuffer()),
      };
    };
    const cases: [string, number, number][] = [
      ["bytes=0-0", 0, 0],
      ["bytes=1048575-1048577", 1_048_575, 1_048_577],
      ["bytes=-5", bytes.length - 5, bytes.length - 1],
      ["Bytes=7-9", 7, 9],
      ["bytes=2999999-", 2_999_999, 2_999_999],
    ];
    for (const [range, start, end] of cases) {
      const { status, at, body } = await ranged(range);
      expect([range, status, at]).toEqual([range, 206, `bytes ${start}-${end}/${bytes.length}`]);
      expect(body.equals(bytes.subarray(start, end + 1))).toBe(true);
    }
    expect(await ranged("bytes=3000000-")).toMatchObject({ status: 416, at: `bytes */${bytes.length}` });
    expect((await ranged("bytes=0-1,5-6")).status).toBe(200);
    expect((await ranged("bytes=0-1", { "if-range": `"${sha512}"` })).status).toBe(206);
    expect((await ranged("bytes=0-1", { "if-range": '"other"' })).body.equals(bytes)).toBe(true);
  });

  test.skipIf(skipped)("PUT under a digest that the bytes do not have is 400, and nothing is readable", async () => {
    for (const sizeBytes of [1_000, 12_000_000]) {
      const body = randomBytes(sizeBytes);
      const name = digest(body);
      const wrong = await put(name, randomBytes(sizeBytes));
      expect([wrong.status, await wrong.text()]).toEqual([400, expect.stringContaining("DIGEST_MISMATCH")]);
      expect((await call("GET", name)).status).toBe(404);
      expect((await put(name, body)).status).toBe(201);
      const again = await put(name, body);
      expect([again.status, await again.text(), again.headers.get("etag")]).toEqual([201, name, `"${name}"`]);
      expect((await put(name, body, { "if-none-match": "*" })).status).toBe(412);
    }
    expect((await put("no-digest", bytes)).status).toBe(400);
    const [one, other] = [randomBytes(1_000), randomBytes(1_000)];
    const contradictory = { "repr-digest": `sha-512=:${Buffer.from(digest(other), "hex").toString("base64")}:` };
    expect((await put(digest(one), one, contradictory)).status).toBe(400);
    expect((await call("GET", digest(one))).status).toBe(404);
    const { status } = await fetch(`${system.shacacheUrl}/shacache`, {
      method: "POST",
      body: new Uint8Array(10),
      headers: {
        authorization: `Bearer ${system.adminToken}`,
        "repr-digest": `sha-512=:${Buffer.from(sha512, "hex").toString("base64")}:`,
      },
    });
    expect(status).toBe(400);
  });

  test.skipIf(skipped)(
    "a client that asks for it is sent to the store, ranges and all; without such a store it is served",
    async () => {
      const answer = await call("GET", `${sha512}?direct`);
      if (storeName === "files") {
        expect([answer.status, Buffer.from(await answer.arrayBuffer()).equals(bytes)]).toEqual([200, true]);
        return;
      }
      const location = answer.headers.get("location") ?? "";
      expect([answer.status, location.startsWith(server?.endpoint ?? "-")]).toEqual([307, true]);
      const part = await fetch(location, { headers: { range: "bytes=10-19" } });
      expect([part.status, Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(10, 20))]).toEqual([206, true]);
      expect((await fetch(location.replace(/Signature=.{4}/, "Signature=0000"))).status).toBe(403);
      expect((await call("GET", `${"0".repeat(128)}?direct`)).status).toBe(404);
      const environment = { SLAPGRAPH_CACHE_URL: system.shacacheUrl };
      const verified = await runCommand(
        ["cache", "pull", sha512, "--direct", "--output", `${system.dataDir}/direct`],
        environment,
      );
      expect(verified).toMatchObject({ code: 0, stderr: "" });
    },
  );

  /** Takes a small blob's bytes away behind the system's back. */
  async function loseBytes(name: string): Promise<void> {
    if (server) {
      const client = s3ClientOf(server);
      for await (const object of client.listObjectsV2(server.bucket, `blobs/${name}`, true) as AsyncIterable<{
        name: string;
      }>)
        await client.removeObject(server.bucket, object.name);
      return;
    }
    const folder = path.join(system.dataDir, "blobs/blobs", name.slice(0, 2));
    for (const file of readdirSync(folder)) if (file.startsWith(name)) rmSync(path.join(folder, file));
  }

  test.skipIf(skipped)("a blob whose bytes are gone is not there, so that it is sent again", async () => {
    const body = randomBytes(1_000);
    await put(digest(body), body);
    await loseBytes(digest(body));
    expect((await call("HEAD", digest(body))).status).toBe(404);
    expect((await put(digest(body), body)).status).toBe(201);
    expect((await call("GET", digest(body))).status).toBe(200);
  });
});
