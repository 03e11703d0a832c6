import { randomBytes } from "node:crypto";
import http from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../common/embedded-postgres.js";
import { openShacacheFixture, type ShacacheFixture, stores } from "../support/shacache-fixture.js";
import { createSigningKey } from "../support/signing-key.js";
import { honest, sha512Of, startUpstream, type UpstreamCache } from "../support/upstream-cache.js";
import { waitFor } from "../support/wait-for.js";

const mebibyte = 1024 * 1024;

describe.each(stores)("pull-through, on $store", ({ store, isSkipped }) => {
  let shacache: ShacacheFixture;
  let first: UpstreamCache;
  let second: UpstreamCache;
  /** Only the second upstream has the last two. */
  const [small, large, other, rest, ...more] = [
    10_000,
    24 * mebibyte,
    3_000_000,
    5_000_000,
    1_000,
    2_000,
    3_000,
    4_000,
  ].map((size) => randomBytes(size));
  const blobs = [small, large, other, rest, ...more] as Buffer[];

  beforeAll(async () => {
    if (isSkipped) return;
    first = await startUpstream(blobs.slice(0, 2));
    second = await startUpstream(blobs);
    shacache = await openShacacheFixture(store, {
      SLAPGRAPH_SHACACHE_UPSTREAMS: `${first.url} ${second.url}`,
      SLAPGRAPH_UPSTREAM_WAIT_SECONDS: "0.5",
    });
  });

  afterAll(async () => {
    await shacache?.close();
    await first?.close();
    await second?.close();
  });

  const get = (bytes: Buffer, headers: Record<string, string> = {}) =>
    shacache.raw("GET", `/shacache/${sha512Of(bytes)}`, undefined, headers);
  const isStored = async (bytes: Buffer) =>
    (await shacache.rows("select 1 as one from shacache.artifact where sha512 = $1", [sha512Of(bytes)])).length > 0;

  test.skipIf(isSkipped)(
    "what is not here comes from the first upstream that has it, is stored, and is not asked for again",
    async () => {
      expect((await get(small as Buffer)).body.equals(small as Buffer)).toBe(true);
      expect(await waitFor(() => isStored(small as Buffer))).toBe(true);
      expect((await get(small as Buffer)).body.equals(small as Buffer)).toBe(true);
      expect([first.asked.length, second.asked.length]).toEqual([1, 0]);
      expect((await get(other as Buffer)).body.equals(other as Buffer)).toBe(true);
      expect([first.asked.length, second.asked.length]).toEqual([2, 1]);
      const [row] = await shacache.rows<{ uploaded_by: string }>(
        "select uploaded_by from shacache.artifact where sha512 = $1",
        [sha512Of(other as Buffer)],
      );
      expect(row?.uploaded_by).toBe(`upstream ${new URL(second.url).host}`);
    },
  );

  test.skipIf(isSkipped)("an existence probe does not pull the blob, HEAD pulls nothing", async () => {
    const bytes = large as Buffer;
    const sent = first.sentBytes;
    const head = (headers?: Record<string, string>) =>
      shacache.raw("HEAD", `/shacache/${sha512Of(bytes)}`, undefined, headers);
    const { status, headers } = await head();
    expect([status, headers["content-length"]]).toEqual([200, String(bytes.length)]);
    second.answer = (request, response, found) =>
      request.method === "HEAD" ? void response.writeHead(405).end() : honest(request, response, found);
    const known = await shacache.raw("HEAD", `/shacache/${sha512Of(rest as Buffer)}`);
    expect(known.headers["content-length"]).toBe(String(rest?.length));
    second.answer = honest;
    // Who asks for what is stored here only is not answered from elsewhere.
    expect((await head({ "cache-control": "only-if-cached" })).status).toBe(404);
    expect((await get(bytes, { "cache-control": "max-stale, only-if-cached" })).status).toBe(404);
    await new Promise<void>((resolve, reject) => {
      const probe = http.get(`${shacache.door.url}/shacache/${sha512Of(bytes)}`, { agent: false }, (response) => {
        expect(response.statusCode).toBe(200);
        response.destroy();
        resolve();
      });
      probe.on("error", reject);
    });
    await waitFor(() => first.sentBytes > sent);
    expect(first.sentBytes - sent).toBeLessThan(bytes.length / 2);
    expect(await isStored(bytes)).toBe(false);
  });

  test.skipIf(isSkipped)("many readers at once are one pull, and each has all of it, in ranges too", async () => {
    const bytes = large as Buffer;
    const asked = first.asked.length;
    const answers = await Promise.all([
      ...Array.from({ length: 8 }, () => get(bytes)),
      get(bytes, { range: "bytes=1000-1999" }),
      get(bytes, { range: "bytes=-10" }),
    ]);
    for (const { status, body } of answers.slice(0, 8)) expect([status, body.equals(bytes)]).toEqual([200, true]);
    expect(answers[8]?.body.equals(bytes.subarray(1000, 2000))).toBe(true);
    expect(answers[9]?.body.equals(bytes.subarray(-10))).toBe(true);
    expect(first.asked.slice(asked).filter((line) => line.startsWith("GET"))).toHaveLength(1);
    expect(await isStored(bytes)).toBe(true);
  });

  test.skipIf(isSkipped)("a reader of a part alone has it once all the rest has come and is right", async () => {
    const bytes = randomBytes(24 * mebibyte);
    first.answer = (request, response) => honest(request, response, bytes);
    const part = await get(bytes, { range: "bytes=0-99" });
    expect([part.status, part.body.equals(bytes.subarray(0, 100))]).toEqual([206, true]);
    expect(await isStored(bytes)).toBe(true);
    first.answer = honest;
  });

  test.skipIf(isSkipped)("a reader has bytes while the rest has yet to come", async () => {
    const bytes = randomBytes(2 * mebibyte);
    let finish: () => void = () => undefined;
    first.answer = (request, response) => {
      if (!request.url?.endsWith(sha512Of(bytes))) return honest(request, response, undefined);
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, mebibyte));
      finish = () => response.end(bytes.subarray(mebibyte));
    };
    const chunks: Buffer[] = [];
    const ended = new Promise<void>((resolve, reject) => {
      http.get(`${shacache.door.url}/shacache/${sha512Of(bytes)}`, { agent: false }, (response) => {
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", resolve);
        response.on("error", reject);
      });
    });
    await waitFor(() => Buffer.concat(chunks).length >= mebibyte - 1);
    expect(await isStored(bytes)).toBe(false);
    finish();
    await ended;
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    first.answer = honest;
  });

  test.skipIf(isSkipped)(
    "an upstream that lies breaks the transfer, keeps nothing, and is not asked for that blob again",
    async () => {
      const lies: [string, (bytes: Buffer) => Buffer, ((bytes: Buffer) => number) | null][] = [
        ["other bytes", (bytes) => Buffer.concat([Buffer.from([(bytes[0] ?? 0) ^ 1]), bytes.subarray(1)]), null],
        ["too many", (bytes) => Buffer.concat([bytes, bytes]), null],
        ["too few", (bytes) => bytes.subarray(0, -1), null],
        ["a page", () => Buffer.from("<html>Not found</html>"), null],
      ];
      for (const [index, [name, lie]] of lies.entries()) {
        const bytes = more[index] as Buffer;
        first.answer = (_, response) => {
          const sent = lie(bytes);
          response.writeHead(200, { "content-length": sent.length }).end(sent);
        };
        const broken = await get(bytes);
        expect([name, broken.status, broken.isBroken]).toEqual([name, 200, true]);
        expect(await isStored(bytes)).toBe(false);
        const { status, body } = await get(bytes);
        expect([name, status, body.equals(bytes)]).toEqual([name, 200, true]);
      }
      first.answer = honest;
    },
  );

  test.skipIf(isSkipped)("where an upstream breaks off or stalls, the next goes on from there", async () => {
    for (const misbehave of ["cut", "stall"]) {
      const bytes = randomBytes(3 * mebibyte);
      first.answer = (_, response) => {
        response.writeHead(200, { "content-length": bytes.length });
        response.write(bytes.subarray(0, mebibyte), () => misbehave === "cut" && response.destroy());
      };
      second.answer = (request, response) => honest(request, response, bytes);
      const { status, body } = await get(bytes);
      expect([misbehave, status, body.equals(bytes)]).toEqual([misbehave, 200, true]);
      expect(second.asked.at(-1)).toMatch(/ bytes=\d+-$/);
      expect(await isStored(bytes)).toBe(true);
    }
    first.answer = honest;
    second.answer = honest;
  });

  test.skipIf(isSkipped)("a blob that upstream does not say the size of is whole or broken all the same", async () => {
    const [good, bad] = [randomBytes(100_000), randomBytes(100_000)];
    first.answer = (_, response) => {
      response.writeHead(200);
      response.write(good.subarray(0, 50_000));
      response.end(good.subarray(50_000));
    };
    expect((await get(good)).body.equals(good)).toBe(true);
    expect((await get(bad)).isBroken).toBe(true);
    first.answer = honest;
  });

  test.skipIf(isSkipped)("what nobody has is 404 with an empty body, and is not asked for again at once", async () => {
    const unknown = randomBytes(10);
    const asked = [first.asked.length, second.asked.length];
    for (let turn = 0; turn < 3; turn++) {
      const { status, body } = await get(unknown);
      expect([status, body.length]).toEqual([404, 0]);
    }
    expect([first.asked.length, second.asked.length]).toEqual(asked.map((count) => count + 1));
    // What is uploaded in the meantime is there all the same.
    expect((await shacache.upload(unknown)).status).toBe(201);
    expect((await get(unknown)).body.equals(unknown)).toBe(true);
  });
});

describe("pull-through from upstreams that do not work", () => {
  const bytes = randomBytes(1_000);
  const unknown = randomBytes(1_000);
  const get = (shacache: ShacacheFixture, wanted: Buffer) => shacache.raw("GET", `/shacache/${sha512Of(wanted)}`);

  test("one that is down, silent, broken or redirects costs a miss nothing but a wait, and never poisons", async () => {
    const silent = await startUpstream([], () => undefined);
    const broken = await startUpstream([], (_, response) => response.writeHead(500).end("broken"));
    const elsewhere = await startUpstream([], (_, response) =>
      response.writeHead(302, { location: "http://127.0.0.1:1/" }).end(),
    );
    const garbage = await startUpstream([], (request) => request.socket.end("this is no HTTP\r\n\r\n"));
    const good = await startUpstream([bytes]);
    const down = `http://127.0.0.1:${await freePort()}`;
    const shacache = await openShacacheFixture("files", {
      SLAPGRAPH_SHACACHE_UPSTREAMS: [down, silent.url, broken.url, garbage.url, elsewhere.url, good.url].join(","),
      SLAPGRAPH_UPSTREAM_WAIT_SECONDS: "0.2",
    });
    expect((await get(shacache, bytes)).body.equals(bytes)).toBe(true);
    // The silent one is left alone for a while; a blob that could not be asked about everywhere is not taken for absent.
    expect((await get(shacache, unknown)).status).toBe(404);
    expect((await get(shacache, unknown)).status).toBe(404);
    expect([silent, broken, garbage].map(({ asked }) => asked.length)).toEqual([1, 3, 3]);
    expect(good.asked).toHaveLength(3);
    await shacache.close();
    for (const upstream of [silent, broken, elsewhere, garbage, good]) await upstream.close();
  });

  test("caches that ask each other, or themselves, end with 404 for what none of them has, also when both are asked at once", async () => {
    const [portA, portB] = [await freePort(), await freePort()];
    const urlOf = (port: number, half: string) => `http://127.0.0.1:${port}/${half}`;
    const open = (port: number, upstream: number) =>
      openShacacheFixture("files", {
        SLAPGRAPH_SHACACHE_PORT: String(port),
        SLAPGRAPH_SHACACHE_UPSTREAMS: `${urlOf(port, "shacache")} ${urlOf(upstream, "shacache")}`,
        SLAPGRAPH_SHADIR_UPSTREAMS: urlOf(upstream, "shadir"),
      });
    const a = await open(portA, portB);
    const b = await open(portB, portA);
    const answers = await Promise.all([a, b, a, b].map((cache) => get(cache, unknown)));
    expect(answers.map(({ status }) => status)).toEqual([404, 404, 404, 404]);
    expect(
      (await Promise.all([a, b].map((cache) => cache.raw("GET", "/shadir/none")))).map(({ status }) => status),
    ).toEqual([404, 404]);
    expect((await b.upload(bytes)).status).toBe(201);
    expect((await get(a, bytes)).body.equals(bytes)).toBe(true);
    await a.close();
    await b.close();
  });
});

test("a blob for which the quota has no room, or no cache has, is refused before its first byte", async () => {
  const bytes = randomBytes(3 * mebibyte);
  const upstream = await startUpstream([bytes]);
  const shacache = await openShacacheFixture("files", { SLAPGRAPH_SHACACHE_UPSTREAMS: upstream.url });
  const ask = (method: string) => shacache.raw(method, `/shacache/${sha512Of(bytes)}`);
  const setQuota = (bytes: number | null) =>
    shacache.graphql(`mutation { setCachePolicy(input: { quotaBytes: ${bytes} }) { userErrors { code } } }`);
  await setQuota(mebibyte);
  for (let turn = 0; turn < 2; turn++) {
    const { status, body, isBroken } = await ask("GET");
    expect([status, body.length, isBroken]).toEqual([507, 0, false]);
  }
  await setQuota(null);
  const { status, body } = await ask("GET");
  expect([status, body.equals(bytes)]).toEqual([200, true]);

  upstream.answer = (_, response) => void response.writeHead(200, { "content-length": 2 ** 50 }).flushHeaders();
  const huge = `/shacache/${"d".repeat(128)}`;
  for (const method of ["HEAD", "GET"]) expect((await shacache.raw(method, huge)).status).toBe(404);
  await shacache.close();
  await upstream.close();
});

test("entries of upstream directories become ours in their order, under raw keys, and stay when upstream is gone", async () => {
  const pairs = (...names: string[]) =>
    names.map((name) => [JSON.stringify({ sha512: "0".repeat(128), name: `${name} é` }), "c2ln"]);
  const toBody = (pair: unknown) => JSON.stringify(pair);
  const upstreams = await Promise.all([
    startUpstream([], (_, response) => response.end(JSON.stringify(pairs("a2", "a1")))),
    startUpstream([], (_, response) => response.end(JSON.stringify(pairs("b1", "a1")))),
    startUpstream([], (_, response) => response.end("[[1, 2]]")),
  ]);
  const [first] = upstreams;
  const shacache = await openShacacheFixture("files", {
    SLAPGRAPH_SHADIR_UPSTREAMS: upstreams.map(({ url }) => url).join(" "),
    SLAPGRAPH_UPSTREAM_WAIT_SECONDS: "0.3",
  });
  const key = "a%2eb..\\c+<d>=,e";
  const read = async (name: string) => {
    const { status, body } = await shacache.raw("GET", `/shadir/${name}`);
    return status === 200
      ? (JSON.parse(body.toString()) as [string, string][]).map(([text]) => JSON.parse(text).name[1])
      : status;
  };
  await shacache.put(key, toBody(pairs("x")[0]));
  const names = async (name: string) => {
    const { body } = await shacache.raw("GET", `/shadir/${name}`);
    return (JSON.parse(body.toString()) as [string, string][]).map(
      ([text]) => (JSON.parse(text) as { name: string }).name,
    );
  };
  expect(await names(key)).toEqual(["a2 é", "a1 é", "b1 é", "x é"]);
  expect(first?.asked).toEqual([`GET ${key}`]);
  expect(await names(key)).toHaveLength(4);
  // The third talks nonsense, so what the others have is asked for again; nothing is doubled by it.
  for (const upstream of upstreams) upstream.answer = (_, response) => void response.destroy();
  expect(await names(key)).toEqual(["a2 é", "a1 é", "b1 é", "x é"]);
  expect(await read("nothing")).toBe(404);
  await shacache.close();
  for (const upstream of upstreams) await upstream.close();
});

test("where a project refuses untrusted entries, upstream's have to be trusted too", async () => {
  const [builder, stranger] = [await createSigningKey("builder"), await createSigningKey("stranger")];
  const entries = [stranger.entry({ name: "stranger" }), builder.entry({ name: "builder" }), '["{}", ""]'];
  const upstream = await startUpstream([], (_, response) => response.end(`[${entries.join(", ")}]`));
  const shacache = await openShacacheFixture("files", { SLAPGRAPH_SHADIR_UPSTREAMS: upstream.url });
  await shacache.graphql("mutation { setCachePolicy(input: { untrustedEntries: REFUSE }) { userErrors { code } } }");
  await shacache.graphql(
    "mutation ($certificate: String!) { trustCertificate(input: { certificate: $certificate }) { userErrors { code } } }",
    { certificate: builder.certificate },
  );
  const { body } = await shacache.raw("GET", "/shadir/key");
  expect((JSON.parse(body.toString()) as [string, string][]).map(([metadata]) => JSON.parse(metadata))).toEqual([
    { name: "builder" },
  ]);
  await shacache.close();
  await upstream.close();
});
