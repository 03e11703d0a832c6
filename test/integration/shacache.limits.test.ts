import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { adminToken } from "../support/database.js";
import { openShacacheFixture, type ShacacheFixture, stores } from "../support/shacache-fixture.js";
import { testLog } from "../support/test-log.js";
import { waitFor } from "../support/wait-for.js";

const digestOf = (bytes: Buffer) => createHash("sha512").update(bytes).digest("hex");
const mebibyte = 1024 * 1024;
const upload = `POST /k/${adminToken}/shacache HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`;
const openFiles = () => readdirSync("/proc/self/fd").length;

/** What is answered to bytes that are sent as they are; the sender's side stays open unless it is ended. */
function talk(url: string, sent: (string | Buffer)[], { end = false, everyMs = 0 } = {}): Promise<string> {
  return new Promise((resolve) => {
    const { hostname, port } = new URL(url);
    const socket = net.connect(Number(port), hostname);
    let answer = "";
    socket.setEncoding("latin1").on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(answer));
    void (async () => {
      for (const bytes of sent) {
        if (socket.destroyed) return;
        socket.write(bytes);
        if (everyMs > 0) await delay(everyMs);
      }
      if (end) socket.end();
    })();
  });
}

const statusIn = (answer: string) => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);

for (const { store, isSkipped } of stores) {
  describe.skipIf(isSkipped)(`uploads and reads as they should not be, on ${store}`, () => {
    let cache: ShacacheFixture;

    beforeAll(async () => {
      cache = await openShacacheFixture(store, { SLAPGRAPH_SHACACHE_STALL_SECONDS: "1" });
    });

    afterAll(() => cache?.close());

    const nothingMore = async (work: () => Promise<unknown>) => {
      const before = await cache.storedNames();
      await work();
      await waitFor(() => cache.storedNames(), {
        until: (names) => names.length === before.length,
        what: "nothing more",
      });
    };

    test("a body shorter than announced whose sender leaves is stored nowhere, in small and in large", async () => {
      for (const sizeBytes of [1_000, 20 * mebibyte]) {
        await nothingMore(async () => {
          const answer = await talk(
            cache.door.url,
            [`${upload}Content-Length: ${sizeBytes + 1}\r\n\r\n`, randomBytes(sizeBytes)],
            { end: true },
          );
          expect(statusIn(answer)).not.toBe(201);
        });
      }
    });

    test("without a length an upload is 411, with one that is none 400, and with too large a one 413 at once", async () => {
      const chunked = await talk(cache.door.url, [
        `${upload}Transfer-Encoding: chunked\r\n\r\n`,
        "5\r\nhello\r\n0\r\n\r\n",
      ]);
      expect([statusIn(chunked), chunked]).toEqual([411, expect.stringContaining("LENGTH_REQUIRED")]);
      expect(statusIn(await talk(cache.door.url, [`${upload}\r\n`]))).toBe(411);
      for (const length of ["-5", "five", "1e3", "5, 6"])
        expect(statusIn(await talk(cache.door.url, [`${upload}Content-Length: ${length}\r\n\r\nhello`])), length).toBe(
          400,
        );
      const both = await talk(cache.door.url, [
        `${upload}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      ]);
      expect(statusIn(both)).toBe(400);
      const huge = await talk(cache.door.url, [`${upload}Content-Length: 999999999999999\r\n\r\n`]);
      expect([statusIn(huge), huge]).toEqual([413, expect.stringContaining("PAYLOAD_TOO_LARGE")]);
    });

    test("a body that stalls or trickles is 408, and stored nowhere", async () => {
      await nothingMore(async () => {
        const stalled = await talk(cache.door.url, [`${upload}Content-Length: 100\r\n\r\n`, "abc"]);
        expect([statusIn(stalled), stalled]).toEqual([408, expect.stringContaining("UPLOAD_STALLED")]);
        const letters = Array.from({ length: 40 }, () => "x");
        const trickling = await talk(cache.door.url, [`${upload}Content-Length: 100\r\n\r\n`, ...letters], {
          everyMs: 100,
        });
        expect(statusIn(trickling)).toBe(408);
        const entry = `PUT /k/${adminToken}/shadir/stalled HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n[`;
        expect(statusIn(await talk(cache.door.url, [entry]))).toBe(408);
      });
    });

    test("a target with NUL, control characters or a wrong form is 400, and the door goes on", async () => {
      for (const target of ["/shacache/\0", "/shadir/a\x01b", "/shadir/a b", "shadir"])
        expect(
          statusIn(await talk(cache.door.url, [`GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n`], { end: true })),
          target,
        ).toBe(400);
      expect((await cache.raw("GET", "/livez")).status).toBe(200);
    });

    test("identical uploads at once are all answered with the sum, and are one copy", async () => {
      for (const sizeBytes of [5_000, 10 * mebibyte]) {
        const bytes = randomBytes(sizeBytes);
        const before = (await cache.storedNames()).length;
        const answers = await Promise.all(Array.from({ length: 8 }, () => cache.upload(bytes)));
        expect(answers.map(({ status, body }) => [status, body.toString()])).toEqual(
          Array(8).fill([201, digestOf(bytes)]),
        );
        expect((await cache.storedNames()).length).toBe(before + 1);
        expect((await cache.raw("GET", `/shacache/${digestOf(bytes)}`)).body.equals(bytes)).toBe(true);
      }
    });

    test("a reader that leaves after the headers stops the reading at once, and leaves nothing open", async () => {
      const bytes = randomBytes(64 * mebibyte);
      expect((await cache.upload(bytes)).status).toBe(201);
      await cache.services.reads.flush();
      const sent = async () => {
        await cache.services.reads.flush();
        const [row] = await cache.rows<{ bytes: string }>("select sum(bytes) as bytes from shacache.read_day");
        return Number(row?.bytes ?? 0);
      };
      const [before, files] = [await sent(), openFiles()];
      const { hostname, port } = new URL(cache.door.url);
      for (let probe = 0; probe < 20; probe++) {
        await new Promise<void>((resolve, reject) => {
          const socket = net.connect(Number(port), hostname);
          socket.once("error", reject);
          socket.once("data", () => socket.destroy());
          socket.once("close", () => resolve());
          socket.write(`GET /shacache/${digestOf(bytes)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
        });
      }
      await waitFor(openFiles, { until: (count) => count <= files + 3, what: "closed files" });
      expect((await sent()) - before).toBeLessThan(20 * 6 * mebibyte);
    });

    test("hundreds of ranges at once are each answered with their bytes", async () => {
      const bytes = randomBytes(24 * mebibyte);
      expect((await cache.upload(bytes)).status).toBe(201);
      const ranges = Array.from({ length: 300 }, (_, number) => [number * 80_000, number * 80_000 + 999] as const);
      const answers = await Promise.all(
        ranges.map(([start, end]) =>
          cache.raw("GET", `/shacache/${digestOf(bytes)}`, undefined, { range: `bytes=${start}-${end}` }),
        ),
      );
      for (const [number, [start, end]] of ranges.entries())
        expect(answers[number]?.body.equals(bytes.subarray(start, end + 1)), String(number)).toBe(true);
      for (const range of ["bytes=0-1,5-6", "bytes=5-2", "items=0-1", "bytes=x-"])
        expect((await cache.raw("GET", `/shacache/${digestOf(bytes)}`, undefined, { range })).status, range).toBe(200);
    });

    test("two thousand idle connections hold nobody up", async () => {
      const { hostname, port } = new URL(cache.door.url);
      const files = openFiles();
      const idle = await Promise.all(
        Array.from(
          { length: 2_000 },
          () =>
            new Promise<net.Socket>((resolve, reject) => {
              const socket = net.connect(Number(port), hostname, () => resolve(socket));
              socket.once("error", reject);
            }),
        ),
      );
      const bytes = randomBytes(mebibyte);
      expect((await cache.upload(bytes)).status).toBe(201);
      expect((await cache.raw("GET", `/shacache/${digestOf(bytes)}`)).status).toBe(200);
      for (const socket of idle) socket.destroy();
      await waitFor(openFiles, { until: (count) => count < files + 50, what: "closed connections" });
    });

    test("beyond quota, size and rate of a project an upload is refused with its code, and the client sees it", async () => {
      const set = (policy: string) =>
        cache.graphql(`mutation { setCachePolicy(input: { ${policy} }) { userErrors { message } } }`);
      const refusal = async (bytes: Buffer) => {
        const { status, body, headers } = await cache.upload(bytes);
        return { status, text: body.toString(), retryAfter: headers["retry-after"] };
      };
      const logged = vi.spyOn(testLog, "error");
      await set("maxBlobBytes: 100000");
      expect(await refusal(randomBytes(8 * mebibyte))).toMatchObject({
        status: 413,
        text: expect.stringContaining("PAYLOAD_TOO_LARGE"),
      });
      const [used] = await cache.rows<{ bytes: string }>("select sum(size_bytes) as bytes from shacache.artifact");
      await set(`maxBlobBytes: null, quotaBytes: ${Number(used?.bytes ?? 0) + 250_000}`);
      const fitting = randomBytes(200_000);
      expect((await cache.upload(fitting)).status).toBe(201);
      await nothingMore(async () => {
        expect(await refusal(randomBytes(100_000))).toMatchObject({
          status: 507,
          text: expect.stringContaining("QUOTA_EXCEEDED"),
        });
        // Each of them fits, together they do not.
        const statuses = await Promise.all(Array.from({ length: 4 }, () => cache.upload(randomBytes(60_000))));
        expect(statuses.map(({ status }) => status).filter((status) => status === 507)).toHaveLength(4);
      });
      expect((await cache.upload(fitting)).status, "what is there already").toBe(201);
      await nothingMore(async () => {
        expect((await cache.upload(randomBytes(fitting.length))).status, "another one of its size").toBe(507);
      });
      // A refusal is the caller's business, and no failure of ours.
      expect(logged).not.toHaveBeenCalled();
      await set("quotaBytes: null, uploadsPerMinute: 2");
      const statuses = [await refusal(randomBytes(10)), await refusal(randomBytes(10)), await refusal(randomBytes(10))];
      expect(statuses.map(({ status }) => status)).toEqual([201, 201, 429]);
      expect(statuses[2]).toMatchObject({
        text: expect.stringContaining("RATE_LIMITED"),
        retryAfter: expect.stringMatching(/^\d+$/),
      });
      expect((await cache.put("limited", '["{}", ""]')).status).toBe(429);
      await set("uploadsPerMinute: null");
      expect((await cache.put("limited", '["{}", ""]')).status).toBe(201);
    });
  });
}

describe.skipIf(stores[1]?.isSkipped)("a store that is away", () => {
  test("is 503 with Retry-After for reads and writes, never 404, and what was there is there again afterwards", async () => {
    const cache = await openShacacheFixture("MinIO");
    const bytes = randomBytes(3 * mebibyte);
    expect((await cache.upload(bytes)).status).toBe(201);
    await cache.minio?.kill();
    for (const answer of [
      await cache.raw("GET", `/shacache/${digestOf(bytes)}`),
      await cache.upload(randomBytes(1_000)),
    ])
      expect([answer.status, answer.headers["retry-after"]]).toEqual([503, "5"]);
    expect((await cache.raw("GET", `/shacache/${digestOf(bytes)}`)).body.length).toBe(0);
    await cache.minio?.start();
    await expect
      .poll(async () => (await cache.raw("GET", `/shacache/${digestOf(bytes)}`)).status, { timeout: 15_000 })
      .toBe(200);
    expect(await cache.events("ArtifactQuarantined")).toEqual([]);
    await cache.close();
  });
});

describe("a folder of blobs that is away", () => {
  test("is 503 with Retry-After, never 404, and the scrub takes nothing for lost", async () => {
    const cache = await openShacacheFixture("files");
    const blobs = [randomBytes(1_000), randomBytes(3 * mebibyte)];
    for (const bytes of blobs) expect((await cache.upload(bytes)).status).toBe(201);
    renameSync(cache.folder, `${cache.folder}-away`);
    for (const target of blobs.map((bytes) => `/shacache/${digestOf(bytes)}`))
      for (const method of ["GET", "HEAD"]) {
        const { status, headers } = await cache.raw(method, target);
        expect([method, status, headers["retry-after"]]).toEqual([method, 503, "5"]);
      }
    await expect(cache.services.scrub.run(new AbortController().signal)).rejects.toMatchObject({ code: "UNAVAILABLE" });
    renameSync(`${cache.folder}-away`, cache.folder);
    for (const bytes of blobs)
      expect((await cache.raw("GET", `/shacache/${digestOf(bytes)}`)).body.equals(bytes)).toBe(true);
    expect(await cache.events("ArtifactQuarantined")).toEqual([]);
    await cache.close();
  });
});

describe("a disk that is full", () => {
  let small: string | null = null;
  let cache: ShacacheFixture;

  beforeAll(async () => {
    small = mountSmallDisk();
    if (small !== null) cache = await openShacacheFixture("files", { SLAPGRAPH_DATA_DIR: small });
  });

  afterAll(async () => {
    await cache?.close();
    if (small === null) return;
    execFileSync("umount", [small]);
    rmSync(small, { recursive: true });
  });

  test("is 507, leaves nothing torn, serves what it has, and takes more once there is room", async ({ skip }) => {
    if (small === null) skip("this process may not mount a file system");
    const first = randomBytes(10 * mebibyte);
    expect((await cache.upload(first)).status).toBe(201);
    const names = await cache.storedNames();
    for (let turn = 0; turn < 3; turn++) {
      const refused = await cache.upload(randomBytes(10 * mebibyte));
      expect([refused.status, refused.body.toString()]).toEqual([507, expect.stringContaining("STORAGE_FULL")]);
    }
    expect(await cache.storedNames()).toEqual(names);
    expect((await cache.raw("GET", `/shacache/${digestOf(first)}`)).body.equals(first)).toBe(true);
    const [{ location } = { location: "" }] = await cache.rows<{ location: string }>(
      "select location from shacache.artifact",
    );
    await cache.services.artifacts.quarantine(digestOf(first), location, "to make room");
    rmSync(`${cache.folder}/quarantine/${location}`);
    expect((await cache.upload(randomBytes(10 * mebibyte))).status).toBe(201);
  });
});

/** A file system of 16 MiB of its own; null where this process may not mount one. */
function mountSmallDisk(): string | null {
  const folder = mkdtempSync("/tmp/sg-small-");
  try {
    mkdirSync(folder, { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], { stdio: "ignore" });
    return folder;
  } catch {
    rmSync(folder, { recursive: true });
    return null;
  }
}
