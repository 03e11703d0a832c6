import net from "node:net";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { dumps } from "../../slap/xml-marshaller.js";
import { withNames } from "../support/authority/drive.js";
import { queries } from "../support/authority/graphql.table.js";
import { type Scene, setScene } from "../support/authority/scene.js";
import { endpoints, methods } from "../support/authority/slap.table.js";
import { rawRequest } from "../support/raw-socket.js";
import { RunningSystem } from "../support/running-system.js";
import { waitFor } from "../support/wait-for.js";

/** The short form. FUZZ_RUNS=5000 FUZZ_SEED=… is a long one; a failure prints its seed and path. */
const numRuns = Number(process.env.FUZZ_RUNS ?? 60);
const seed = Number(process.env.FUZZ_SEED ?? 20261125);
const bounds = { numRuns, seed };
/** What the heap may have grown by after everything that is sent here, garbage included. */
const maxGrowthBytes = 400 * 1024 * 1024;

let system: RunningSystem;
let scene: Scene;
let residentBytes: number;

beforeAll(async () => {
  system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" });
  scene = await setScene(system);
  residentBytes = await resident();
});

afterEach(async () => {
  // A crash would end the process, and this with it.
  for (const url of [system.gatewayUrl, system.slapUrl, system.shacacheUrl])
    expect((await fetch(`${url}/readyz`)).status, system.output.slice(-2_000)).toBe(200);
});

afterAll(async () => {
  const grown = (await resident()) - residentBytes;
  await system.close();
  expect(grown).toBeLessThan(maxGrowthBytes);
});

async function resident(): Promise<number> {
  const text = await (await fetch(`${system.gatewayUrl}/metrics`)).text();
  return Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)?.[1]);
}

/** Neither where our files are nor what failed inside; and what comes from outside is never a fault of ours. */
function expectPublic(text: string, status = 200): void {
  expect(text).not.toMatch(/\n\s+at |node_modules|\/dist\/|\.js:\d|TypeError|RangeError|syntax error at|INTERNAL/);
  expect([500, 502, 503]).not.toContain(status);
}

const json = { "content-type": "application/json" };

async function send(url: string, init: RequestInit): Promise<void> {
  const response = await fetch(url, init);
  expectPublic(await response.text(), response.status);
}

/** Text of all that text may have, and of what is special somewhere. */
const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 60 }),
  fc.string({ maxLength: 60 }),
  fc.constantFrom(
    "\0",
    "\u0000x",
    "\ud800",
    "__proto__",
    "constructor",
    "../../etc/passwd",
    "%00",
    "'; drop table x",
    "1e999",
    "x".repeat(9_000),
  ),
);
const value = fc.oneof(text, fc.integer(), fc.double(), fc.boolean(), fc.constant(null), fc.jsonValue({ maxDepth: 3 }));

/** A valid text with some pieces of it cut, doubled or replaced. */
function mutated(valid: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const change = fc.record({
    at: fc.nat(),
    length: fc.nat(12),
    by: fc.oneof(text, fc.constantFrom("{", "}", "(", "<", ">", "&", '"', "...", "$", "@", "#", "]]>")),
  });
  return fc.tuple(valid, fc.array(change, { minLength: 1, maxLength: 4 })).map(([start, changes]) =>
    changes.reduce((so, { at, length, by }) => {
      const from = at % (so.length + 1);
      return so.slice(0, from) + by + so.slice(from + length);
    }, start),
  );
}

describe("GraphQL", () => {
  const document = () =>
    fc.constantFrom(...Object.values(queries).map(([, query]) => `{ ${withNames(query, scene.present)} }`));
  const ask = async (body: unknown) => {
    const response = await fetch(`${system.gatewayUrl}/graphql`, {
      method: "POST",
      headers: { ...json, authorization: `Bearer ${system.adminToken}` },
      body: JSON.stringify(body),
    });
    const answered = await response.text();
    expectPublic(answered, response.status);
    const { errors } = JSON.parse(answered) as { errors?: { extensions?: { code?: string } }[] };
    for (const error of errors ?? []) expect(error.extensions?.code, answered).toBeDefined();
  };

  test("documents that are broken are answered", () =>
    fc.assert(
      fc.asyncProperty(mutated(document()), (query) => ask({ query })),
      bounds,
    ));

  test("variables of any kind are answered", async () => {
    const operations = [
      "query ($v: String!) { computer(reference: $v) { id } instance(reference: $v) { id } partition(key: $v) { id } softwareRelease(url: $v) { id } project(name: $v) { id } person(subject: $v) { id } }",
      "query ($v: ID!) { node(id: $v) { id } }",
      "query ($v: [ID!]!) { nodes(ids: $v) { id } }",
      "query ($v: Int) { computers(first: $v) { edges { cursor } } }",
      "query ($v: String) { tokens(first: 1, after: $v) { edges { cursor } } }",
      "query ($v: AuditFilterInput) { auditRecords(first: 1, filter: $v) { edges { cursor } } }",
      "query ($v: DateTimeISO) { auditRecords(first: 1, filter: { since: $v }) { edges { cursor } } }",
      "query ($v: String!) { explainAllocation(first: 1, instance: $v) { edges { cursor } } }",
      'mutation ($v: JSON) { requestInstance(input: { title: "fuzz", releaseUrl: "http://x/", parameters: $v, filter: { computer_guid: "nowhere" } }) { instance { id } userErrors { code message path } } }',
      'mutation ($v: JSON) { requestInstance(input: { title: "fuzz", releaseUrl: "http://x/", filter: $v }) { instance { id } userErrors { code message path } } }',
      "mutation ($v: String!) { requestInstance(input: { title: $v, releaseUrl: $v, softwareType: $v, computerReference: $v }) { instance { id } userErrors { code message path } } }",
      "mutation ($v: String!) { revokeToken(input: { id: $v }) { userErrors { code message path } } }",
      "mutation ($v: String!) { revokeCertificate(input: { id: $v }) { userErrors { code message path } } }",
      "mutation ($v: String!) { createPerson(input: { subject: $v, displayName: $v }) { userErrors { code message path } } }",
      "mutation ($v: String!) { createProject(input: { name: $v, title: $v }) { userErrors { code message path } } }",
      "mutation ($v: String!) { createComputer(input: { reference: $v, title: $v }) { userErrors { code message path } } }",
      "mutation ($v: String!) { createSoftwareProduct(input: { name: $v, title: $v, description: $v }) { userErrors { code message path } } }",
      'mutation ($v: String!) { publishSoftwareRelease(input: { productName: "thing", url: $v, version: $v }) { userErrors { code message path } } }',
      'mutation ($v: String!) { bangComputer(input: { reference: "COMP-A", message: $v }) { userErrors { code message path } } }',
      'mutation ($v: String!) { renameInstance(input: { reference: "SOFTINST-1", title: $v }) { userErrors { code message path } } }',
      'mutation ($v: String!) { supplySoftware(input: { computerReference: "COMP-A", releaseUrl: $v }) { userErrors { code message path } } }',
    ];
    const given = fc.oneof(value, fc.dictionary(text, value), fc.array(text, { maxLength: 120 }));
    const asked = fc.tuple(fc.constantFrom(...operations), given);
    await fc.assert(
      fc.asyncProperty(asked, ([query, v]) => ask({ query, variables: { v } })),
      { ...bounds, numRuns: 4 * numRuns },
    );
  });

  test("bodies that are no request, and requests with odd members, are answered", () =>
    fc.assert(
      fc.asyncProperty(
        fc.oneof(value, fc.record({ query: value, variables: value, operationName: value, extensions: value })),
        (body) => ask(body),
      ),
      bounds,
    ));

  test("WebSocket messages of any kind end their connection at the most", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            text,
            value.map((one) => JSON.stringify({ type: "subscribe", id: "1", payload: one })),
          ),
        ),
        async (messages) => {
          const socket = new WebSocket(`${system.gatewayUrl.replace("http", "ws")}/graphql`, "graphql-transport-ws");
          const closed = new Promise((resolve) => socket.once("close", resolve));
          socket.on("message", (data) => expectPublic(String(data)));
          await new Promise((resolve) => socket.once("open", resolve));
          socket.send(
            JSON.stringify({ type: "connection_init", payload: { authorization: `Bearer ${system.adminToken}` } }),
          );
          for (const message of messages) socket.send(message);
          socket.close();
          await closed;
        },
      ),
      { ...bounds, numRuns: Math.ceil(numRuns / 2) },
    ));

  const connect = async () => {
    const socket = new WebSocket(`${system.gatewayUrl.replace("http", "ws")}/graphql`, "graphql-transport-ws");
    await new Promise((resolve) => socket.once("open", resolve));
    const ready = new Promise((resolve) => socket.once("message", resolve));
    const payload = { authorization: `Bearer ${system.adminToken}` };
    socket.send(JSON.stringify({ type: "connection_init", payload }));
    await ready;
    return socket;
  };
  const openStreams = async () => {
    const text = await (await fetch(`${system.gatewayUrl}/metrics`)).text();
    return Number(/^slapgraph_event_streams_open (\d+)$/m.exec(text)?.[1]);
  };

  test.each(["ping", "subscribe"])("who sends %s and reads no answer is not read any more either", async (type) => {
    const socket = await connect();
    socket.pause();
    const message = (id: number) => JSON.stringify({ id: String(id), type, payload: { query: "{" } });
    for (let id = 0; id < 500_000; id++) socket.send(message(id));
    // What is on its way between the two, where the system's buffers are full, is far less than what was sent.
    let last = -1;
    let unchanged = 0;
    const isStill = (now: number) => {
      unchanged = now === last ? unchanged + 1 : 0;
      last = now;
      return now === 0 || unchanged === 100;
    };
    await waitFor(() => socket.bufferedAmount, { until: isStill, timeoutMs: 50_000, what: "the end of reading" });
    expect(socket.bufferedAmount).toBeGreaterThan(5_000_000);
    socket.terminate();
  });

  test("a subscription whose id its client has used before ends with the connection", async () => {
    const socket = await connect();
    const start = (query: string) => socket.send(JSON.stringify({ id: "1", type: "subscribe", payload: { query } }));
    start("{ computers(first: 100) { edges { node { partitions(first: 10) { edges { node { key } } } } } } }");
    socket.send(JSON.stringify({ id: "1", type: "complete" }));
    start("subscription { partitionStateChanged { cursor } }");
    await waitFor(openStreams, { until: (count) => count > 0, what: "the stream" });
    socket.terminate();
    await waitFor(openStreams, { until: (count) => count === 0, what: "the end of the stream" });
  });
});

describe("SLAP", () => {
  const post = (endpoint: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string>) =>
    send(`${system.slapUrl}/k/${system.adminToken}/${endpoint}`, { method: "POST", body, headers });
  const form = { "content-type": "application/x-www-form-urlencoded" };

  test("fields of any kind are answered at every endpoint", async () => {
    const names = Object.keys(endpoints).map((name) => name.split(" ") as [string, string]);
    const asked = fc.tuple(fc.constantFrom(...names), fc.dictionary(text, text, { maxKeys: 3 }), text, text);
    const fields = (given: Record<string, string>, one: string, other: string) =>
      new URLSearchParams({
        ...given,
        computer_id: one,
        computer_partition_id: other,
        computer_reference: one,
        computer_partition_reference: other,
        url: other,
        message: other,
        error_log: other,
        partition_reference: other,
        software_release: other,
        computer_title: other,
        new_name: other,
        use_string: other,
      }).toString();
    await fc.assert(
      fc.asyncProperty(asked, ([[method, endpoint], given, one, other]) =>
        method === "POST"
          ? post(endpoint, fields(given, one, other), form)
          : send(
              `${system.slapUrl}/k/${system.adminToken}/${endpoint}?${fields(given, one.slice(0, 500), other.slice(0, 500))}`,
              {},
            ),
      ),
      { ...bounds, numRuns: 4 * numRuns },
    );
  });

  test("XML that is broken, deep, wide or of the wrong shape is answered", async () => {
    const computer = {
      reference: "COMP-A",
      partition_list: [{ reference: "slappart0", tap: { name: "lo" }, address_list: [] }],
    };
    const documents = [dumps(computer), dumps({ a: "b", c: "d" }), dumps([1, 2, { x: null }])];
    const xml = fc.oneof(
      mutated(fc.constantFrom(...documents)),
      text,
      fc.nat(3_000).map((depth) => `<marshal>${"<list>".repeat(depth)}`),
      fc.nat(2_000).map((count) => `<marshal><list>${"<none/>".repeat(count)}</list></marshal>`),
      text.map((name) => `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///${name}">]><marshal><string>&e;</string></marshal>`),
      text.map((number) => `<marshal><int>${number}</int></marshal>`),
    );
    const fieldsOf = {
      loadComputerConfigurationFromXML: "xml",
      requestComputerPartition: "partition_parameter_xml",
      setComputerPartitionConnectionXml: "connection_xml",
      useComputer: "use_string",
    };
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...Object.entries(fieldsOf)), xml, ([endpoint, field], body) =>
        post(endpoint, new URLSearchParams({ ...requestFields, [field]: body }).toString(), form),
      ),
      { ...bounds, numRuns: 2 * numRuns },
    );
  });

  const requestFields = {
    computer_id: "COMP-A",
    computer_partition_id: "slappart0",
    software_release: "http://x/",
    software_type: "default",
    partition_reference: "fuzz",
    filter_xml: dumps({ computer_guid: "nowhere" }),
  };

  test("JSON of any kind is answered by every method", async () => {
    const asked = fc.tuple(
      fc.constantFrom(...Object.entries(methods)),
      fc.dictionary(text, value),
      value,
      fc.boolean(),
    );
    await fc.assert(
      fc.asyncProperty(asked, ([[name, [, inputOf]], more, odd, isWhole]) => {
        const input = Object.entries(inputOf(scene.present)).map(([key, one]) => [key, isWhole ? one : odd]);
        return post(`slapos.${name}`, JSON.stringify({ ...Object.fromEntries(input), ...(isWhole ? {} : more) }), json);
      }),
      { ...bounds, numRuns: 2 * numRuns },
    );
    for (const body of ["", "[", "null", "[]", "1", `${"[".repeat(100_000)}`, '{"a":1e999}'])
      await post("slapos.get.v0.compute_node_status", body, json);
  });

  test("JSON that nests without end is refused, and no fault of ours", async () => {
    const [, inputOf] = methods["post.v0.software_instance"] ?? [];
    const input = JSON.stringify({ ...inputOf?.(scene.present), parameters: "deep" });
    const body = input.replace('"deep"', `{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`);
    const answer = await fetch(`${system.slapUrl}/k/${system.adminToken}/slapos.post.v0.software_instance`, {
      method: "POST",
      headers: json,
      body,
    });
    expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining("nests up to 50 levels")]);
  });
});

describe("Shacache", () => {
  test("keys and entries of any kind are answered", () =>
    fc.assert(
      fc.asyncProperty(fc.oneof(text, fc.webPath()), fc.oneof(value, fc.tuple(value, value)), async (key, entry) => {
        const target = `/shadir/${encodeURIComponent(key.toWellFormed())}`;
        await send(`${system.shacacheUrl}/k/${system.adminToken}${target}`, {
          method: "PUT",
          body: JSON.stringify(entry) ?? "",
        });
        await send(`${system.shacacheUrl}${target}`, {});
        await send(`${system.shacacheUrl}/shacache/${encodeURIComponent(key.toWellFormed())}`, {});
      }),
      bounds,
    ));

  test("entries whose metadata is of any kind are answered", () =>
    fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.constantFrom("sha512", "software_url", "os", "multiarch", "x"), value),
        text,
        async (metadata, signature) => {
          const body = JSON.stringify([JSON.stringify(metadata), signature]);
          await send(`${system.shacacheUrl}/k/${system.adminToken}/shadir/fuzz`, { method: "PUT", body });
        },
      ),
      bounds,
    ));
});

describe("every door", () => {
  const ports = () => [system.gatewayUrl, system.slapUrl, system.shacacheUrl].map((url) => Number(new URL(url).port));

  test("targets and headers that no client sends are answered or cut", async () => {
    const token = system.adminToken;
    const lines = [
      "GET / HTTP/9.9\r\n\r\n",
      "GET  /graphql HTTP/1.1\r\n\r\n",
      "GET http://[/graphql HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET //graphql?query=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
      `GET /graphql?query=%ff%fe HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      `GET /graphql?query={a}&variables={ HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      `GET /k/${token}/getHateoasUrl HTTP/1.1\r\nHost: <script>\r\n\r\n`,
      `GET /k/${token}/hateoas?mode=search&query=%00 HTTP/1.1\r\nHost: x\r\n\r\n`,
      `GET /k/%00/getHateoasUrl HTTP/1.1\r\nHost: x\r\n\r\n`,
      `POST /k/${token}/supplySupply HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef`,
      `POST /k/${token}/shacache HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n`,
      `POST /k/${token}/shacache HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n`,
      `POST /k/${token}/shacache HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
      `POST /k/${token}/shacache HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n`,
      `GET /shacache/${"0".repeat(128)} HTTP/1.1\r\nHost: x\r\nRange: bytes=99999999999999999999-\r\n\r\n`,
      "GET /shadir/\x01\x02 HTTP/1.1\r\nHost: x\r\n\r\n",
      `GET /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: ${"Basic ".repeat(500)}\r\n\r\n`,
      `GET /graphql HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${"x".repeat(5_000)}\r\nAuthorization: Bearer ${token}\r\n\r\n`,
      `GET /graphql HTTP/1.1\r\nHost: x\r\n${"X-Many: x\r\n".repeat(3_000)}\r\n`,
      `GET /graphql HTTP/1.1\r\nHost: x\r\nX-Long: ${"x".repeat(100_000)}\r\n\r\n`,
      "GET /graphql HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 99\r\n\r\n",
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for (const port of ports()) {
      for (const line of lines) {
        const answer = await rawRequest(port, Buffer.from(line, "latin1"));
        const status = Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 400);
        expect(status, line.slice(0, 100)).not.toBe(500);
        expectPublic(answer, status);
      }
    }
  });

  test("bytes that are no HTTP are cut", () =>
    fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 300 }),
        fc.constantFrom(0, 1, 2),
        async (bytes, door) => {
          expectPublic(await rawRequest(ports()[door] ?? 0, Buffer.from(bytes)));
        },
      ),
      bounds,
    ));

  test("a compressed bomb is refused unread, or kept as the bytes that it is", async () => {
    const bomb = new Uint8Array(gzipSync(Buffer.alloc(200 * 1024 * 1024)));
    const headers = { "content-encoding": "gzip" };
    const at = [
      [`${system.gatewayUrl}/graphql`, { ...json, ...headers, authorization: `Bearer ${system.adminToken}` }],
      [`${system.slapUrl}/k/${system.adminToken}/supplySupply`, headers],
      [`${system.slapUrl}/Person_requestComputer`, headers],
      [`${system.slapUrl}/k/${system.adminToken}/slapos.get.v0.instance_tree`, { ...json, ...headers }],
    ] as const;
    for (const [url, all] of at) {
      const response = await fetch(url, { method: "POST", body: bomb, headers: all });
      expect(response.status, url).toBe(415);
    }
    const url = `${system.shacacheUrl}/k/${system.adminToken}/shacache`;
    const stored = await fetch(url, { method: "POST", body: bomb, headers });
    expect([201, 415]).toContain(stored.status);
  });

  test("a client that leaves in the middle of its body is no fault that the log tells", async () => {
    const bearer = `Authorization: Bearer ${system.adminToken}`;
    for (const [url, path] of [
      [system.gatewayUrl, "/graphql"],
      [system.slapUrl, `/k/${system.adminToken}/supplySupply`],
      [system.shacacheUrl, "/shadir/left"],
    ] as const) {
      const { port } = new URL(url);
      const method = path.startsWith("/shadir") ? "PUT" : "POST";
      const socket = net.connect(Number(port), "127.0.0.1");
      socket.write(
        `${method} ${path} HTTP/1.1\r\nHost: x\r\n${bearer}\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n`,
      );
      // The door asks for the body, so it reads it.
      await new Promise((resolve) => socket.once("data", resolve));
      socket.write("some");
      const closed = new Promise((resolve) => socket.once("close", resolve));
      socket.destroy();
      await closed;
      await fetch(`${url}/readyz`);
    }
    expect(system.output).not.toMatch(/"msg":"a (request|SLAP call|Shacache call) failed"/);
  });

  test("hundreds of connections that stop in the middle of everything keep nobody out", async () => {
    const token = system.adminToken;
    const halves = [
      "",
      "POST /graphql HT",
      "GET /graphql HTTP/1.1\r\nHost: x\r\n",
      `POST /graphql HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"query`,
      `POST /k/${token}/supplySupply HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\ncomputer_id=`,
      `POST /k/${token}/shacache HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc`,
      "POST /Person_requestComputer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ntitle=",
    ];
    const sockets = ports().flatMap((port) =>
      Array.from({ length: 140 }, (_, number) => {
        const socket = net.connect({ port, host: "127.0.0.1", allowHalfOpen: true });
        socket.on("error", () => undefined);
        socket.write(halves[number % halves.length] ?? "");
        // Half of them say that nothing more comes, and do not close.
        if (number % 2 === 0) socket.end();
        return socket;
      }),
    );
    try {
      await system.graphql("{ computers(first: 1) { edges { cursor } } }");
      await send(`${system.slapUrl}/k/${token}/getHateoasUrl`, {});
      await send(`${system.shacacheUrl}/shadir/entry-key`, {});
    } finally {
      for (const socket of sockets) socket.destroy();
    }
  });
});
