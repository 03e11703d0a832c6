import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommand } from "../support/command.js";
import { type MinioServer, s3Environment, startMinio } from "../support/minio-server.js";
import { RunningSystem } from "../support/running-system.js";
import { createSigningKey } from "../support/signing-key.js";
import { minioBinary, reasonToSkip } from "../support/toolchain.js";

const minio = await minioBinary();
const digest = (bytes: Buffer) => createHash("sha512").update(bytes).digest("hex");

describe.each(["files", "MinIO"])("slapgraph cache, on %s", (storeName) => {
  const skipped = storeName === "MinIO" && reasonToSkip(minio) !== null;
  let system: RunningSystem;
  let server: MinioServer | undefined;
  let folder: string;

  beforeAll(async () => {
    if (skipped) return;
    if (storeName === "MinIO" && "binary" in minio) server = await startMinio(minio.binary);
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error", ...s3Environment(server) });
    folder = mkdtempSync("/tmp/sg-cache-");
  });

  afterAll(async () => {
    await system?.close();
    await server?.close();
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  const cache = (args: string[], options: Parameters<typeof runCommand>[2] & { url?: string; token?: string } = {}) =>
    runCommand(
      ["cache", ...args],
      {
        SLAPGRAPH_CACHE_URL: options.url ?? system.shacacheUrl,
        SLAPGRAPH_TOKEN: options.token ?? system.adminToken,
      },
      options,
    );

  function file(name: string, bytes: Buffer): string {
    const place = path.join(folder, name);
    mkdirSync(path.dirname(place), { recursive: true });
    writeFileSync(place, bytes);
    return place;
  }

  const largeBytes = randomBytes(20 * 1024 * 1024);

  test.skipIf(skipped)("a folder is walked, pushed, listed, verified, and pulled again as it was", async () => {
    const contents = new Map([
      ["tree/large", largeBytes],
      ["tree/empty", Buffer.alloc(0)],
      ["tree/a/b/with space\nand line", randomBytes(1_000)],
      ["tree/a/ü", randomBytes(10)],
    ]);
    for (const [name, bytes] of contents) file(name, bytes);
    symlinkSync(folder, path.join(folder, "tree/loop"));
    const pushed = await cache(["push", path.join(folder, "tree")]);
    expect(pushed).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("tree/loop is no regular file, left out"),
    });
    expect(pushed.stdout.trimEnd().split("\n")).toHaveLength(contents.size);
    const again = await cache(["push", path.join(folder, "tree")]);
    expect(again.stdout.split("\n").sort()).toEqual(pushed.stdout.split("\n").sort());
    expect((await cache(["ls", path.join(folder, "tree")])).code).toBe(0);
    const all = await runCommand(["cache", "ls"], {
      SLAPGRAPH_URL: `${system.gatewayUrl}/graphql`,
      SLAPGRAPH_TOKEN: system.adminToken,
    });
    expect(all.stdout).toContain(`${digest(largeBytes)}  ${largeBytes.length} `);
    const verified = await cache(["verify", path.join(folder, "tree")]);
    expect([verified.code, verified.stdout.match(/: OK$/gm)?.length]).toEqual([0, contents.size]);

    const sums = file("sums", Buffer.from(pushed.stdout));
    const target = path.join(folder, "copy");
    expect(await cache(["pull", sums, "--to", target, "--jobs", "2"])).toMatchObject({ code: 0, stderr: "" });
    for (const [name, bytes] of contents) expect(readFileSync(path.join(target, name)).equals(bytes), name).toBe(true);
    execFileSync("sha512sum", ["--check", "--strict", "--quiet", sums], { cwd: target });
    expect((await cache(["pull", "-", "--to", target], { input: pushed.stdout })).code).toBe(0);
  });

  test.skipIf(skipped)(
    "a pull goes on where a part ended, and a part of something else does not spoil it",
    async () => {
      const sha512 = digest(largeBytes);
      await cache(["push", file("large", largeBytes)]);
      const asked: (string | undefined)[] = [];
      const proxy = http.createServer((request, response) => {
        if (request.method === "GET") asked.push(request.headers.range);
        const { hostname, port } = new URL(system.shacacheUrl);
        const onward = http.request(
          { hostname, port, method: request.method, path: request.url, headers: request.headers },
          (answer) => {
            response.writeHead(answer.statusCode ?? 0, answer.headers);
            // The first transfer is cut in the middle.
            if (asked.length === 1) {
              let sentBytes = 0;
              answer.on("data", (chunk: Buffer) => {
                if (sentBytes < 5_000_000) response.write(chunk);
                else response.destroy();
                sentBytes += chunk.length;
              });
            } else answer.pipe(response);
          },
        );
        onward.on("error", () => response.destroy());
        request.pipe(onward);
      });
      await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
      const url = `http://127.0.0.1:${(proxy.address() as { port: number }).port}`;
      const target = path.join(folder, "resumed");
      expect(await cache(["pull", sha512, "--output", target], { url })).toMatchObject({ code: 0 });
      expect(readFileSync(target).equals(largeBytes)).toBe(true);
      expect(asked).toHaveLength(2);
      expect(Number(/^bytes=(\d+)-$/.exec(asked[1] ?? "")?.[1])).toBeGreaterThan(0);

      const kept = 15_000_000;
      file("later.part", largeBytes.subarray(0, kept));
      asked.splice(0, asked.length, "no cut");
      expect((await cache(["pull", sha512, "--output", path.join(folder, "later")], { url })).code).toBe(0);
      expect(asked.slice(1)).toEqual([`bytes=${kept}-`]);
      expect(existsSync(path.join(folder, "later.part"))).toBe(false);

      for (const [name, bytes] of Object.entries({
        other: randomBytes(1_000),
        longer: Buffer.concat([largeBytes, randomBytes(5)]),
        whole: largeBytes,
      })) {
        file(`${name}.part`, bytes);
        expect((await cache(["pull", sha512, "--output", path.join(folder, name)])).code, name).toBe(0);
        expect(readFileSync(path.join(folder, name)).equals(largeBytes), name).toBe(true);
      }
      proxy.close();
    },
  );

  test.skipIf(skipped)("absent is 2, failed is 1, each said by name, and the others go on", async () => {
    const known = file("known", randomBytes(100));
    const unknown = file("unknown", randomBytes(100));
    await cache(["push", known]);
    for (const verb of ["ls", "verify"]) {
      const ended = await cache([verb, unknown, known]);
      expect([verb, ended.code, ended.stderr.includes("unknown:"), ended.stdout.includes("known")]).toEqual([
        verb,
        2,
        true,
        true,
      ]);
    }
    const pulled = await cache(["pull", "0".repeat(128), digest(readFileSync(known)), "--to", folder]);
    expect(pulled).toMatchObject({ code: 2, stderr: expect.stringContaining("The cache does not have it.") });
    expect(existsSync(path.join(folder, digest(readFileSync(known))))).toBe(true);
    expect(existsSync(path.join(folder, "0".repeat(128)))).toBe(false);

    const refused = await cache(["push", unknown], { token: "wrong" });
    expect(refused).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("401 UNAUTHENTICATED") });
    expect((await cache(["push", path.join(folder, "nowhere")])).code).toBe(1);
    expect((await cache(["push", unknown, "--jobs", "0"])).code).toBe(1);
    expect((await cache(["pull", digest(readFileSync(known)), "--output", unknown])).stderr).toContain("--replace");
    const outside = await cache(["pull", "-", "--to", folder], {
      input: `${digest(readFileSync(known))}  ../../out\n`,
    });
    expect(outside).toMatchObject({ code: 1, stderr: expect.stringContaining("leads out of the folder") });
  });

  test.skipIf(skipped)("a key finds what was pushed under it, the newest first, signed or not", async () => {
    const builder = await createSigningKey("builder");
    const key = file("signing.pem", Buffer.from(builder.key));
    const certificate = file("certificate.pem", Buffer.from(builder.certificate));
    const url = "http://example.org/thing.tar.gz";
    const [first, second, third] = ["one", "two", "three"].map((name) => file(`keyed/${name}`, randomBytes(50)));
    const push = (place = "", ...more: string[]) => cache(["push", place, "--source-url", url, ...more]);
    expect((await push(first, "--signing-key", key, "--meta", "os=debian", "arch=x86")).code).toBe(0);
    expect((await push(second)).code).toBe(0);
    expect((await push(third, "--meta", "os=debian")).code).toBe(0);

    const pulled = async (...more: string[]) => {
      const target = mkdtempSync(path.join(folder, "keyed-"));
      const { code, stdout } = await cache(["pull", "--source-url", url, "--to", target, ...more]);
      return code === 0 ? stdout.trimEnd().split("  ")[1] : code;
    };
    expect(await pulled()).toBe("three");
    expect(await pulled("--where", "file=two")).toBe("two");
    expect(await pulled("--where", "os=debian", "arch=x86")).toBe("one");
    expect(await pulled("--certificate", certificate)).toBe("one");
    expect(await pulled("--where", "os=other")).toBe(2);
    const listed = await cache(["ls", "--key", `file-urlmd5:${createHash("md5").update(url).digest("hex")}`]);
    expect(
      listed.stdout
        .trimEnd()
        .split("\n")
        .map((line) => line.split(/ +/)[1]),
    ).toEqual(["signed", "no", "no", "yes"]);
  });

  test.skipIf(skipped)("a push that is killed leaves nothing, and the next one does all of it", async () => {
    const bytes = randomBytes(30 * 1024 * 1024);
    const place = file("killed", bytes);
    const abort = new AbortController();
    const slow = http.createServer((request) => {
      request.once("data", () => abort.abort());
    });
    await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
    // A HEAD that is not answered would hold it: this server answers that one only.
    slow.prependListener("request", (request, response) => {
      if (request.method === "HEAD") response.writeHead(404, { "content-length": 0 }).end();
    });
    const url = `http://127.0.0.1:${(slow.address() as { port: number }).port}`;
    expect((await cache(["push", place], { url, signal: abort.signal })).code).not.toBe(0);
    slow.close();
    expect((await cache(["ls", place])).code).toBe(2);
    expect((await cache(["push", place])).code).toBe(0);
    expect((await cache(["verify", digest(bytes)])).code).toBe(0);
  });
});
