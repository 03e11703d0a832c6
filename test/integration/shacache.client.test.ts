import { execFile } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { adminToken } from "../support/database.js";
import { openShacacheFixture, type ShacacheFixture } from "../support/shacache-fixture.js";
import { pythonToolchain, reasonToSkip } from "../support/toolchain.js";

const toolchain = await pythonToolchain();

/** Asks the real client for something, and prints what it got: an answer, or the error that it raised. */
const client = `
import io, json, sys
from urllib.error import HTTPError
from slapos.libnetworkcache import NetworkcacheClient
options, sizes = json.loads(sys.argv[1]), json.loads(sys.argv[2])
nc = NetworkcacheClient(options)
for size in sizes:
    try:
        sha512 = nc.upload(io.BytesIO(b"x" * size), "key-%d" % size, size=size)
        print(json.dumps({"sha512": sha512, "read": nc.download(sha512).read() == b"x" * size}))
    except HTTPError as error:
        print(json.dumps({"status": error.code}))
    except Exception as error:
        print(json.dumps({"raised": type(error).__name__ + ": " + str(error)}))
`;

describe.skipIf(reasonToSkip(toolchain) !== null)("slapos.libnetworkcache, as nodes are configured", () => {
  const folder = mkdtempSync("/tmp/sg-client-");
  let cache: ShacacheFixture;

  beforeAll(async () => {
    chmodSync(folder, 0o755);
    cache = await openShacacheFixture("files", { SLAPGRAPH_SHACACHE_TLS_PORT: "0" });
  });

  afterAll(async () => {
    await cache?.close();
    rmSync(folder, { recursive: true });
  });

  async function ask(options: Record<string, string>, ...sizes: number[]) {
    if ("missing" in toolchain) throw new Error(toolchain.missing);
    const read = { "download-cache-url": `${cache.door.url}/shacache`, "download-dir-url": `${cache.door.url}/shadir` };
    const args = ["-W", "ignore", "-c", client, JSON.stringify({ ...read, ...options }), JSON.stringify(sizes)];
    const { stdout } = await promisify(execFile)(toolchain.python, args, { ...toolchain.runAs, cwd: "/" });
    return stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
  }

  const writing = (base: string) => ({ "upload-cache-url": `${base}/shacache`, "upload-dir-url": `${base}/shadir` });

  test("it uploads over TLS by its node's certificate alone, and reads over plain HTTP", async () => {
    const issued = await cache.resources.certificates.issue({
      kind: "node",
      subject: "COMP-1",
      project: "main",
      lifetimeDays: 1,
    });
    const file = (name: string, text: string) => {
      writeFileSync(path.join(folder, name), text, { mode: 0o644 });
      return path.join(folder, name);
    };
    const pair = {
      "cert-file": file("node.crt", issued.certificate),
      "key-file": file("node.key", issued.key),
      "ca-file": file("ca.crt", cache.resources.certificates.pem),
    };
    const certificates = Object.entries(pair).flatMap(([name, value]) => [
      [`shacache-${name}`, value],
      [`shadir-${name}`, value],
    ]);
    const options = { ...writing(cache.door.tlsUrl ?? ""), ...Object.fromEntries(certificates) };
    expect(await ask(options, 0, 10, 3_000_000)).toMatchObject([{ read: true }, { read: true }, { read: true }]);
    const rows = await cache.rows("select distinct uploaded_by from shacache.artifact");
    expect(rows).toEqual([{ uploaded_by: "COMP-1" }]);
  });

  test("it sees why it was refused, also after many bytes, and not a broken pipe", async () => {
    const large = 24 * 1024 * 1024;
    expect(await ask(writing(cache.door.url), large)).toEqual([{ status: 401 }]);
    const viewer = await cache.resources.tokens.issue({
      kind: "person",
      role: "VIEWER",
      subject: "vera",
      project: "main",
      lifetimeSeconds: 600,
    });
    expect(await ask(writing(`${cache.door.url}/k/${viewer.token}`), large)).toEqual([{ status: 403 }]);
    await cache.graphql("mutation { setCachePolicy(input: { maxBlobBytes: 1000000 }) { userErrors { code } } }");
    expect(await ask(writing(`${cache.door.url}/k/${adminToken}`), large)).toEqual([{ status: 413 }]);
  });
});
