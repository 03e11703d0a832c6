import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { gzipSync } from "node:zlib";
import { getIntrospectionQuery } from "graphql";
import { createClient } from "graphql-ws";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { ServiceKey, serviceHeader } from "../../common/service-key.js";
import { runCommand } from "../support/command.js";
import { RunningSystem } from "../support/running-system.js";
import { Subscriber } from "../support/subscriber.js";
import { codeOf, type Operation, transports } from "../support/transports.js";
import { waitFor } from "../support/wait-for.js";

const follow = "subscription ($after: String) { partitionStateChanged(after: $after) { cursor change { to } } }";
const post = (system: RunningSystem, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
  fetch(`${system.gatewayUrl}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${system.adminToken}`, ...headers },
    body,
  });

describe("a gateway with small limits", () => {
  let system: RunningSystem;

  beforeAll(async () => {
    system = await RunningSystem.start(
      {
        SLAPGRAPH_LOG_LEVEL: "error",
        SLAPGRAPH_MAX_DEPTH: "8",
        SLAPGRAPH_MAX_ALIASES: "3",
        SLAPGRAPH_MAX_TOKENS: "200",
        SLAPGRAPH_MAX_COST: "500",
        SLAPGRAPH_MAX_BODY_KIB: "8",
        SLAPGRAPH_MAX_OPERATION_SECONDS: "5",
        SLAPGRAPH_MAX_SUBSCRIPTIONS: "2",
        SLAPGRAPH_MAX_CONNECTIONS: "100",
      },
      "apart",
    );
  });

  afterAll(() => system.close());

  const page = (size: string, inside: string) => `computers(first: ${size}) { edges { node { ${inside} } } }`;
  const bomb = (levels: number) => {
    const level = (number: number) =>
      `fragment f${number} on Query { ${number < levels ? `...f${number + 1} ...f${number + 1}` : "__typename"} }`;
    return `{ ...f0 } ${Array.from({ length: levels + 1 }, (_, number) => level(number)).join(" ")}`;
  };
  const refused: Record<string, [code: string, operation: Operation]> = {
    "too deep": [
      "DEPTH_LIMIT",
      { query: `{ ${page("1", "partitions(first: 1) { edges { node { instance { softwareRelease { url } } } } }")} }` },
    ],
    "too deep in a fragment": [
      "DEPTH_LIMIT",
      {
        query: `{ ${page("1", "...c")} } fragment c on Computer { partitions(first: 1) { edges { node { instance { parent { title } } } } } }`,
      },
    ],
    "too deep in a value": [
      "DEPTH_LIMIT",
      { query: `query ($a: JSON = ${"[".repeat(60)}${"]".repeat(60)}) { __typename }` },
    ],
    "too deep in a variable": [
      "DEPTH_LIMIT",
      { query: "query ($a: JSON) { __typename }", variables: { a: JSON.parse(`${"[".repeat(60)}${"]".repeat(60)}`) } },
    ],
    "too many aliases": ["ALIAS_LIMIT", { query: "{ a: __typename b: __typename c: __typename d: __typename }" }],
    "too many tokens": ["TOKEN_LIMIT", { query: `{ ${"__typename ".repeat(200)} }` }],
    "too long a page of pages": [
      "COST_LIMIT",
      { query: `{ ${page("10", "partitions(first: 100) { edges { node { key } } }")} }` },
    ],
    "too long a page of pages, by variables": [
      "COST_LIMIT",
      {
        query: `query ($size: Int = 1) { ${page("10", "partitions(first: $size) { edges { node { key } } }")} }`,
        variables: { size: 100 },
      },
    ],
    "too long a page of pages, by defaults": [
      "COST_LIMIT",
      { query: `query ($size: Int = 100) { ${page("10", "partitions(first: $size) { edges { node { key } } }")} }` },
    ],
    "too long a list": ["BAD_USER_INPUT", { query: `{ ${page("101", "reference")} }` }],
  };

  for (const [transport, send] of Object.entries(transports)) {
    describe(`over ${transport}`, () => {
      for (const [what, [code, operation]] of Object.entries(refused)) {
        test(`${what} is ${code}`, async () => {
          const answer = await send(system.gatewayUrl, system.adminToken, operation);
          expect(codeOf(answer), JSON.stringify(answer)).toBe(code);
        });
      }

      test("what is within them is answered, and fragments that double one another cost no time", async () => {
        const query = `{ ${page("10", "partitions(first: 10) { edges { node { key } } }")} }`;
        expect(codeOf(await send(system.gatewayUrl, system.adminToken, { query }))).toBeUndefined();
        const many = await send(system.gatewayUrl, system.adminToken, { query: bomb(12) });
        expect(many).toMatchObject({ data: { __typename: "Query" } });
      });

      test("an operation that takes too long is answered before it ends", async () => {
        const sql = new Client({ connectionString: system.databaseUrl });
        await sql.connect();
        try {
          await sql.query("begin; lock table computer.computer in access exclusive mode");
          const answer = await send(system.gatewayUrl, system.adminToken, { query: `{ ${page("1", "reference")} }` });
          expect(codeOf(answer), JSON.stringify(answer)).toBe("EXECUTION_TIMEOUT");
        } finally {
          await sql.end();
        }
      });
    });
  }

  test("a caller has so many subscriptions at a time, over all its connections, and a place is free when one ends", async () => {
    const open = () =>
      new Subscriber().followWebSocket(system.gatewayUrl, system.adminToken, "partitionStateChanged", follow);
    const first = open();
    const second = new Subscriber().followEventStream(
      system.gatewayUrl,
      system.adminToken,
      "partitionStateChanged",
      follow,
    );
    await waitFor(() => first.isOpen && second.isOpen, { what: "two subscriptions" });
    for (const send of [transports["event stream"], transports.WebSocket])
      expect(codeOf((await send?.(system.gatewayUrl, system.adminToken, { query: follow })) ?? {})).toBe(
        "SUBSCRIPTION_LIMIT",
      );
    const computer = await system.graphql<{ createComputer: { credential: string } }>(
      'mutation { createComputer(input: { reference: "OTHER" }) { credential } }',
    );
    const other = await transports.WebSocket?.(system.gatewayUrl, computer.createComputer.credential, {
      query: follow,
    });
    expect(codeOf(other ?? {})).toBeUndefined();
    first.cut();
    second.cut();
    await waitFor(
      async () => codeOf((await transports.WebSocket?.(system.gatewayUrl, system.adminToken, { query: follow })) ?? {}),
      {
        until: (code) => code === undefined,
        what: "a free place",
      },
    );
  });

  test("one connection has so many operations at a time, of any kind", async () => {
    const client = createClient({
      url: `${system.gatewayUrl.replace("http", "ws")}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      connectionParams: { authorization: `Bearer ${system.adminToken}` },
    });
    const query = "{ computers(first: 1) { edges { cursor } } }";
    const ask = () =>
      new Promise<unknown>((resolve, reject) => {
        const error = (problem: unknown) =>
          Array.isArray(problem) ? resolve(problem[0].extensions.code) : reject(new Error(String(problem)));
        client.subscribe({ query }, { next: () => resolve("answered"), error, complete: () => undefined });
      });
    const answers = await Promise.all(Array.from({ length: 50 }, ask));
    expect(new Set(answers)).toEqual(new Set(["answered", "SUBSCRIPTION_LIMIT"]));
    expect(await ask()).toBe("answered");
    await client.dispose();
  });

  test("an operation that runs counts for its connection, though its client has completed it", async () => {
    const sql = new Client({ connectionString: system.databaseUrl });
    await sql.connect();
    const socket = new WebSocket(`${system.gatewayUrl.replace("http", "ws")}/graphql`, "graphql-transport-ws");
    const opened = once(socket, "open");
    const codes: string[] = [];
    socket.on("message", (data) => {
      const { type, payload } = JSON.parse(String(data));
      if (type === "error") codes.push(payload[0].extensions.code);
      if (type !== "connection_ack") return;
      const ask = (id: string) =>
        socket.send(JSON.stringify({ id, type: "subscribe", payload: { query: `{ ${page("1", "reference")} }` } }));
      for (const id of ["a", "b"]) {
        ask(id);
        socket.send(JSON.stringify({ id, type: "complete" }));
      }
      ask("c");
    });
    try {
      await sql.query("begin; lock table computer.computer in access exclusive mode");
      await opened;
      const payload = { authorization: `Bearer ${system.adminToken}` };
      socket.send(JSON.stringify({ type: "connection_init", payload }));
      await waitFor(() => codes.length > 0, { what: "a refusal" });
      expect(codes).toEqual(["SUBSCRIPTION_LIMIT"]);
    } finally {
      socket.terminate();
      await sql.end();
    }
  });

  test("what asks for too much has no status of a fault of ours, and is no reason for a client to try again", async () => {
    const query = `{ ${page("10", "partitions(first: 100) { edges { node { key } } }")} }`;
    const statusOf = async (accept: string) => (await post(system, JSON.stringify({ query }), { accept })).status;
    // As the specification of GraphQL over HTTP has it for each type.
    expect(await statusOf("application/json")).toBe(200);
    expect(await statusOf("text/event-stream")).toBe(200);
    expect(await statusOf("application/graphql-response+json")).toBe(400);
    const { errors } =
      (await transports.WebSocket?.(system.gatewayUrl, system.adminToken, { query: "{ nothing }" })) ?? {};
    expect(errors?.[0]?.extensions).toEqual({ code: "GRAPHQL_VALIDATION_FAILED" });
  });

  test("what is no request has a code of the table, and nothing of the parser in it", async () => {
    const bodies = ["nothing", "{", "1", "null", "{}", '{"query":1}', '{"query":"{ __typename }","more":1}'];
    for (const body of [...bodies, '{"query":"{ __typename }","variables":[]}', `${" ".repeat(2_000)}[]`]) {
      const answer = (await (await post(system, body)).json()) as { errors: { extensions: object }[] };
      const code = body.endsWith("[]") ? "BATCH_REFUSED" : "BAD_USER_INPUT";
      expect(
        answer.errors.map(({ extensions }) => extensions),
        body,
      ).toEqual([{ code }]);
    }
    const authorization = `Bearer ${system.adminToken}`;
    const head = await fetch(`${system.gatewayUrl}/graphql`, { method: "HEAD", headers: { authorization } });
    expect(head.status).toBe(405);
  });

  test("a body that is too large, a list of operations or compressed is refused with its code, and the door lives", async () => {
    const answer = async (response: Response) => codeOf((await response.json()) as never);
    expect(await answer(await post(system, JSON.stringify({ query: "x".repeat(9_000) })))).toBe("PAYLOAD_TOO_LARGE");
    expect(await answer(await post(system, '  [{"query":"{ __typename }"}]'))).toBe("BATCH_REFUSED");
    const bytes = new Uint8Array(gzipSync(JSON.stringify({ query: "{ __typename }" })));
    expect(await answer(await post(system, bytes, { "content-encoding": "gzip" }))).toBe("UNSUPPORTED_ENCODING");
    const form = { method: "POST", body: bytes, headers: { "content-encoding": "gzip" } };
    const slap = await fetch(`${system.slapUrl}/k/${system.adminToken}/supplySupply`, form);
    expect([slap.status, await slap.text()]).toEqual([415, expect.stringMatching(/^UNSUPPORTED_ENCODING/)]);
    expect((await post(system, '{"query":"{ __typename }"}')).status).toBe(200);
  });

  test("a WebSocket message that is too large closes its connection, and no frame is taken compressed", async () => {
    const socket = new WebSocket(`${system.gatewayUrl.replace("http", "ws")}/graphql`, "graphql-transport-ws");
    const closed = new Promise<number>((resolve) => socket.once("close", resolve));
    await new Promise((resolve) => socket.once("open", resolve));
    expect(socket.extensions).toBe("");
    socket.send(JSON.stringify({ type: "connection_init", payload: { authorization: "x".repeat(9_000) } }));
    expect(await closed).toBe(1009);
  });

  test.each(["gatewayUrl", "slapUrl", "shacacheUrl"] as const)(
    "%s has so many connections, and says so to what comes beyond",
    async (door) => {
      const { hostname, port } = new URL(system[door]);
      const held = Array.from({ length: 101 }, () => net.connect(Number(port), hostname));
      try {
        await Promise.all(held.map((socket) => new Promise((resolve) => socket.once("connect", resolve))));
        await waitFor(() => fetch(`${system[door]}/anything`).then((response) => response.text()), {
          until: (text) => text.startsWith("CONNECTION_LIMIT"),
          what: "a refused connection",
        });
        if (door === "gatewayUrl") {
          const socket = new WebSocket(`${system.gatewayUrl.replace("http", "ws")}/graphql`, "graphql-transport-ws");
          const error = await new Promise<Error>((resolve) => socket.once("error", resolve));
          expect(error.message).toContain("503");
        }
        expect((await fetch(`${system[door]}/livez`)).status).toBe(200);
      } finally {
        for (const socket of held) socket.destroy();
      }
      await waitFor(() => fetch(`${system[door]}/anything`).then((response) => response.status), {
        until: (status) => status !== 503,
        what: "room again",
      });
    },
  );

  test("a subgraph that runs apart answers the gateway only, over HTTP and WebSocket, whatever token comes", async () => {
    const key = await ServiceKey.open(system.dataDir);
    const ask = async (url: string, mark: string | null) => {
      const response = await fetch(`${url}/graphql`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          authorization: `Bearer ${system.adminToken}`,
          ...(mark === null ? {} : { [serviceHeader]: mark }),
        },
        body: '{"query":"{ __typename }"}',
      });
      return codeOf((await response.json()) as never);
    };
    const connect = (url: string, service: string | undefined) =>
      new Promise<string>((resolve) => {
        const socket = new WebSocket(`${url.replace("http", "ws")}/graphql`, "graphql-transport-ws");
        const authorization = `Bearer ${system.adminToken}`;
        socket.once("open", () =>
          socket.send(JSON.stringify({ type: "connection_init", payload: { authorization, service } })),
        );
        socket.once("message", (data) => {
          resolve(JSON.parse(String(data)).type);
          socket.close();
        });
        socket.once("close", (code) => resolve(String(code)));
      });
    for (const url of system.subgraphUrls.values()) {
      const wrong = [
        null,
        "",
        "nonsense",
        key.sign(Date.now() - 3_600_000),
        key.sign().replace(/.$/, "A"),
        key.sign(Date.now() + 3_600_000),
      ];
      for (const mark of wrong.filter((one) => one !== key.sign())) expect(await ask(url, mark)).toBe("FORBIDDEN");
      expect(await ask(url, key.sign())).toBeUndefined();
      expect([await connect(url, undefined), await connect(url, key.sign())]).toEqual(["4403", "connection_ack"]);
    }
  });
});

describe("a gateway that answers registered documents only and tells no schema", () => {
  const folder = mkdtempSync("/tmp/sg-docs-");
  const registered = "query One($size: Int!) { computers(first: $size) { edges { cursor } } }";
  const inManifest = "{ projects(first: 1) { edges { cursor } } }";
  const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
  let system: RunningSystem;

  beforeAll(async () => {
    chmodSync(folder, 0o755);
    writeFileSync(`${folder}/one.graphql`, `${registered}\n`);
    writeFileSync(`${folder}/introspection.graphql`, getIntrospectionQuery());
    writeFileSync(`${folder}/more.json`, JSON.stringify({ [sha256(inManifest)]: inManifest }));
    const switches = { SLAPGRAPH_TRUSTED_DOCUMENTS: folder, SLAPGRAPH_INTROSPECTION: "off" };
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error", ...switches });
  });

  afterAll(async () => {
    await system.close();
    rmSync(folder, { recursive: true });
  });

  for (const [transport, send] of Object.entries(transports)) {
    test(`over ${transport} a registered document is answered by its text or its id, and no other`, async () => {
      const ask = (operation: Operation) => send(system.gatewayUrl, system.adminToken, operation);
      const variables = { size: 1 };
      const byId = (text: string) => ({ extensions: { persistedQuery: { version: 1, sha256Hash: sha256(text) } } });
      expect(await ask({ query: registered, variables })).toMatchObject({ data: { computers: { edges: [] } } });
      expect(await ask({ ...byId(registered), variables })).toMatchObject({ data: { computers: { edges: [] } } });
      expect(await ask(byId(inManifest))).toMatchObject({ data: { projects: {} } });
      const others = [
        { query: "{ __typename }" },
        byId("{ __typename }"),
        { query: "{ __typename }", ...byId("{ __typename }") },
        { query: `${registered} # or so`, variables },
      ];
      for (const other of others) expect(codeOf(await ask(other)), JSON.stringify(other)).toBe("DOCUMENT_NOT_TRUSTED");
      expect(codeOf(await ask({ query: getIntrospectionQuery() }))).toBe("INTROSPECTION_OFF");
    });
  }

  test("the slapgraph command works there, though nobody registered what it asks", async () => {
    const environment = { SLAPGRAPH_URL: `${system.gatewayUrl}/graphql`, SLAPGRAPH_TOKEN: system.adminToken };
    const says = async (...args: string[]) => {
      const { code, stdout, stderr } = await runCommand(args, environment);
      expect([args, code, stderr]).toEqual([args, 0, ""]);
      return stdout.trim();
    };
    await says("project", "create", "trusting");
    await says("person", "create", "ann");
    await says("token", "create", "--person", "ann", "--role", "OWNER", "--project", "trusting");
    expect(await says("token", "list")).toContain("trusting");
    await says("person", "revoke", "ann", "--project", "trusting");
    await says("computer", "create", "COMP-1");
    await says("registration", "create", "--uses", "1");
    await says("node", "config", "COMP-1");
    for (const noun of ["project", "person", "registration", "computer", "audit", "key"]) await says(noun, "list");
    await says("key", "rotate");
  });

  test("a text that is sent beside a registered id is not what is answered", async () => {
    const extensions = { persistedQuery: { version: 1, sha256Hash: sha256(inManifest) } };
    const answer = await transports["HTTP POST"]?.(system.gatewayUrl, system.adminToken, {
      query: "{ tokens(first: 1) { edges { cursor } } }",
      extensions,
    });
    expect(answer).toMatchObject({ data: { projects: {} } });
    expect(JSON.stringify(answer)).not.toContain("tokens");
  });
});

describe("a gateway that tells no schema", () => {
  let system: RunningSystem;

  beforeAll(async () => {
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error", SLAPGRAPH_INTROSPECTION: "off" });
  });

  afterAll(() => system.close());

  for (const [transport, send] of Object.entries(transports)) {
    test(`over ${transport} it says neither its schema nor what a wrong name may have meant`, async () => {
      const ask = (query: string, variables = {}) => send(system.gatewayUrl, system.adminToken, { query, variables });
      for (const query of [
        getIntrospectionQuery(),
        '{ __type(name: "Query") { name } }',
        "{ ...s } fragment s on Query { __schema { description } }",
      ])
        expect(codeOf(await ask(query))).toBe("INTROSPECTION_OFF");
      const wrong = [
        ["{ computer { reference } }", {}],
        ["{ computerz(first: 1) { edges { cursor } } }", {}],
        ["{ computers(frst: 1) { edges { cursor } } }", {}],
        [
          "query ($o: AuditFilterInput) { auditRecords(first: 1, filter: $o) { edges { cursor } } }",
          { o: { door: "GRAPHQ" } },
        ],
        [
          "query ($o: AuditFilterInput) { auditRecords(first: 1, filter: $o) { edges { cursor } } }",
          { o: { actr: "x" } },
        ],
        ["{ projects(first: 1) { edges { node { ... on Projekt { name } } } } }", {}],
      ] as const;
      for (const [query, variables] of wrong) {
        const answer = await ask(query, variables);
        expect(answer.errors, query).toBeDefined();
        expect(JSON.stringify(answer)).not.toContain("Did you mean");
      }
      expect(await ask("{ __typename }")).toMatchObject({ data: { __typename: "Query" } });
    });
  }
});
