import { createHash, randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dumps } from "../../slap/xml-marshaller.js";
import { rawRequest } from "../support/raw-request.js";
import { RunningSystem, type Wiring } from "../support/running-system.js";

const wirings: Wiring[] = ["one process", "apart"];

describe.each(wirings)("%s", (wiring) => {
  let system: RunningSystem;
  let nodeToken: string;
  let otherToken: string;

  beforeAll(async () => {
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" }, wiring);
    const create = `mutation ($reference: String!) { createComputer(input: { reference: $reference }) { credential } }`;
    const credentialOf = async (reference: string) =>
      (await system.graphql<{ createComputer: { credential: string } }>(create, { reference })).createComputer
        .credential;
    nodeToken = await credentialOf("COMP-1");
    otherToken = await credentialOf("COMP-2");
    const partition = {
      reference: "slappart0",
      tap: { name: "slaptap0" },
      address_list: [{ addr: "10.0.0.1", netmask: "255.255.255.255" }],
    };
    await slap("loadComputerConfigurationFromXML", {
      xml: dumps({ reference: "COMP-1", partition_list: [partition] }),
    });
  });

  afterAll(() => system.close());

  async function slap(
    endpoint: string,
    fields: Record<string, string>,
    token: string | null = nodeToken,
    headers: Record<string, string> = {},
  ) {
    const prefix = token === null ? "" : `/k/${token}`;
    const response = await fetch(`${system.slapUrl}${prefix}/${endpoint}`, {
      method: "POST",
      body: new URLSearchParams(fields),
      headers,
    });
    return { status: response.status, text: await response.text() };
  }

  async function slapGet(pathAndQuery: string, token: string | null = nodeToken, headers: Record<string, string> = {}) {
    const response = await fetch(`${system.slapUrl}${token === null ? "" : `/k/${token}`}/${pathAndQuery}`, {
      headers,
    });
    return { status: response.status, text: await response.text(), type: response.headers.get("content-type") };
  }

  const raw = (method: string, target: string, body?: Buffer, headers?: Record<string, string>) =>
    rawRequest(system.shacacheUrl, method, target, body, headers);

  describe("the SLAP door", () => {
    test("no token, a wrong one or a foreign one gets nothing, in the path or as Basic", async () => {
      const query = "getFullComputerInformation?computer_id=COMP-1";
      expect((await slapGet(query, null)).status).toBe(401);
      expect((await slapGet(query, "nonsense")).status).toBe(401);
      expect((await slapGet(query, otherToken)).status).toBe(404);
      const basic = (token: string) => ({
        authorization: `Basic ${Buffer.from(`anybody:${token}`).toString("base64")}`,
      });
      expect((await slapGet(query, null, basic(nodeToken))).status).toBe(200);
      expect((await slapGet(query, null, basic("nonsense"))).status).toBe(401);
      expect(
        (
          await slapGet(query, null, {
            authorization: "X-SlapPartition computer_id=COMP-1, computer_partition_id=slappart0",
          })
        ).status,
      ).toBe(401);
    });

    test("a tampered token is refused", async () => {
      const [header, payload, signature] = nodeToken.split(".");
      const claims = JSON.parse(Buffer.from(payload ?? "", "base64url").toString("utf8"));
      const forged = Buffer.from(JSON.stringify({ ...claims, sub: "COMP-2" })).toString("base64url");
      expect(
        (await slapGet("getFullComputerInformation?computer_id=COMP-2", `${header}.${forged}.${signature}`)).status,
      ).toBe(401);
      const none = Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url");
      expect((await slapGet("getFullComputerInformation?computer_id=COMP-1", `${none}.${payload}.`)).status).toBe(401);
    });

    test("an unknown computer, endpoint or partition is 404, and never a page", async () => {
      expect((await slapGet("getFullComputerInformation?computer_id=COMP-404")).status).toBe(404);
      expect((await slapGet("hateoas/index.html")).status).toBe(404);
      expect((await slap("slapos.get.v0.nothing", {})).status).toBe(404);
      expect((await slapGet("constructor")).status).toBe(404);
      const report = { computer_id: "COMP-1", computer_partition_id: "slappart404" };
      expect((await slap("startedComputerPartition", report)).status).toBe(404);
    });

    test("XML that is malformed, hostile or of the wrong shape is 400 with its code, and the door lives", async () => {
      const bombs = [
        "<marshal>",
        "not xml",
        `<!DOCTYPE x [<!ENTITY a "b">]><marshal><string>&a;</string></marshal>`,
        `<marshal>${"<list>".repeat(5_000)}</marshal>`,
        `<marshal><object module="os" class="system"><tuple/><dictionary/></object></marshal>`,
      ];
      for (const xml of bombs) {
        const answer = await slap("loadComputerConfigurationFromXML", { xml });
        expect(answer.status, xml.slice(0, 60)).toBe(400);
        expect(answer.text).toContain("MALFORMED_XML");
      }
      expect((await slap("loadComputerConfigurationFromXML", { xml: dumps([1, 2]) })).status).toBe(400);
      expect((await slap("loadComputerConfigurationFromXML", {})).status).toBe(400);
      expect((await slapGet("getFullComputerInformation?computer_id=COMP-1")).status).toBe(200);
    });

    test("a request that nothing fits is 408, a header that names another partition is refused, and the token shows in no answer", async () => {
      const fields = {
        software_release: "http://x/software.cfg",
        software_type: "default",
        partition_reference: "nowhere",
        partition_parameter_xml: dumps({}),
        filter_xml: dumps({ computer_guid: "COMP-404" }),
        state: dumps(null),
        shared_xml: dumps(false),
      };
      expect((await slap("requestComputerPartition", fields, system.adminToken)).status).toBe(408);
      expect(
        (
          await slap(
            "requestComputerPartition",
            { ...fields, state: dumps("destroyed"), partition_reference: "never" },
            system.adminToken,
          )
        ).status,
      ).toBe(408);
      const report = { computer_id: "COMP-1", computer_partition_id: "slappart0" };
      const other = { authorization: "X-SlapPartition computer_id=COMP-2, computer_partition_id=slappart0" };
      expect((await slap("startedComputerPartition", report, nodeToken, other)).status).toBe(404);
      for (const answer of [await slapGet("nothing"), await slapGet("getFullComputerInformation?computer_id=X")]) {
        expect(answer.text).not.toContain(nodeToken);
      }
    });

    test("the answer says its charset, and a poll of an unchanged computer has the same bytes", async () => {
      const first = await slapGet("getFullComputerInformation?computer_id=COMP-1");
      expect(first.type).toBe("text/xml; charset=utf-8");
      expect((await slapGet("getFullComputerInformation?computer_id=COMP-1")).text).toBe(first.text);
    });
  });

  describe("the Shacache door", () => {
    const upload = (bytes: Buffer, headers: Record<string, string> = {}) =>
      raw("POST", `/k/${system.adminToken}/shacache`, bytes, headers);

    test("an upload without a token is refused with 401 even when its body is large", async () => {
      expect((await raw("POST", "/shacache", randomBytes(8 * 1024 * 1024))).status).toBe(401);
    });

    test("a stored blob is answered with 201 and exactly its digest, and read whole or in ranges", async () => {
      const bytes = randomBytes(100_000);
      const sha512 = createHash("sha512").update(bytes).digest("hex");
      const stored = await upload(bytes);
      expect([stored.status, stored.body.toString()]).toEqual([201, sha512]);
      expect((await raw("GET", `/shacache/${sha512}`)).body.equals(bytes)).toBe(true);
      const part = await raw("GET", `/shacache/${sha512}`, undefined, { range: "bytes=99990-" });
      expect([part.status, part.body.equals(bytes.subarray(99_990))]).toEqual([206, true]);
      expect((await raw("GET", `/shacache/${sha512}`, undefined, { range: "bytes=100000-" })).status).toBe(416);
    });

    test("an absent blob is 404 with an empty body, and no path reaches outside the store", async () => {
      for (const key of ["0".repeat(128), "../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "x".repeat(10_000)]) {
        const answer = await raw("GET", `/shacache/${key}`);
        expect([answer.status, answer.body.length]).toEqual([404, 0]);
      }
    });

    test("directory entries are kept byte for byte, newest first, once each, under keys that stay as they were sent", async () => {
      const keys = ["plain", "a+b", "a%2eb", "a.b", "..", "pypi:x=1,<2>[3]", "back\\slash"];
      for (const key of keys) {
        const target = `/k/${system.adminToken}/shadir/${key}`;
        const first = Buffer.from(`["{\\"sha512\\":  \\"${key.length}\\"}", ""]`);
        const second = Buffer.from('["{\\"n\\": 2}", "c2ln\\n"]');
        expect((await raw("PUT", target, first)).status).toBe(201);
        expect((await raw("PUT", target, second)).status).toBe(201);
        expect((await raw("PUT", target, first)).status).toBe(201);
        expect((await raw("GET", `/shadir/${key}`)).body.toString()).toBe(`[${second}, ${first}]`);
      }
      expect((await raw("GET", "/shadir/none")).status).toBe(404);
    });

    test("an entry that is not a pair of texts is 400 with the reason", async () => {
      for (const body of ["{", "[]", '["one"]', '["a", 1]', '{"a": 1}']) {
        const answer = await raw("PUT", `/k/${system.adminToken}/shadir/bad`, Buffer.from(body));
        expect(answer.status, body).toBe(400);
        expect(answer.body.toString()).toContain("BAD_USER_INPUT");
      }
      expect((await raw("GET", "/shadir/bad")).status).toBe(404);
    });
  });

  describe("the gateway", () => {
    const post = async (body: string, headers: Record<string, string> = {}) => {
      const response = await fetch(`${system.gatewayUrl}/graphql`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${system.adminToken}`, ...headers },
        body,
      });
      return {
        status: response.status,
        result: (await response.json()) as { errors?: { message: string; extensions: { code: string } }[] },
      };
    };
    const codeOf = async (query: string, headers: Record<string, string> = {}) => {
      const { result } = await post(JSON.stringify({ query }), headers);
      return result.errors?.[0]?.extensions.code;
    };

    test("every refusal has its code", async () => {
      expect(
        (await post(JSON.stringify({ query: "{ computers(first: 1) { edges { cursor } } }" }), { authorization: "" }))
          .status,
      ).toBe(401);
      expect(await codeOf("{ computers(first: 1) { edges { cursor } } }", { authorization: "Bearer x" })).toBe(
        "UNAUTHENTICATED",
      );
      expect(await codeOf("{ computers { edges { cursor } } }")).toBe("BAD_USER_INPUT");
      expect(await codeOf("{ computers(first: 101) { edges { cursor } } }")).toBe("BAD_USER_INPUT");
      expect(await codeOf('{ computers(first: 1, after: "x") { edges { cursor } } }')).toBe("BAD_CURSOR");
      expect(await codeOf("{ nothing }")).toBe("GRAPHQL_VALIDATION_FAILED");
      expect(await codeOf("{ computers(first: }")).toBe("GRAPHQL_PARSE_FAILED");
      expect(await codeOf("{ _service { sdl } }")).toBe("GRAPHQL_VALIDATION_FAILED");
      expect((await post(JSON.stringify({ query: "x".repeat(2_000_000) }))).result.errors?.[0]?.extensions.code).toBe(
        "PAYLOAD_TOO_LARGE",
      );
      expect((await post("not json")).result.errors?.[0]).toBeDefined();
      const mutation = 'mutation { revokeToken(input: { id: "x" }) { userErrors { code } } }';
      const byGet = await fetch(`${system.gatewayUrl}/graphql?${new URLSearchParams({ query: mutation })}`, {
        headers: { authorization: `Bearer ${system.adminToken}` },
      });
      expect([byGet.status, await byGet.json()]).toMatchObject([
        405,
        { errors: [{ extensions: { code: "METHOD_NOT_ALLOWED" } }] },
      ]);
    });

    test("node and nodes find what the caller sees, and nothing else", async () => {
      const id = Buffer.from("Computer:COMP-1").toString("base64url");
      const absent = Buffer.from("Computer:COMP-404").toString("base64url");
      const query =
        "query ($id: ID!, $ids: [ID!]!) { node(id: $id) { id ... on Computer { reference } } nodes(ids: $ids) { id } }";
      expect(await system.graphql(query, { id, ids: [absent, id, "nonsense"] })).toEqual({
        node: { id, reference: "COMP-1" },
        nodes: [null, { id }, null],
      });
      expect(await system.graphql(query, { id, ids: [id] }, otherToken)).toEqual({ node: null, nodes: [null] });
    });

    test("a browser gets GraphiQL without a token, and an unknown path 404", async () => {
      const page = await fetch(`${system.gatewayUrl}/graphql`, { headers: { accept: "text/html" } });
      expect([page.status, page.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
      expect(await page.text()).toContain("Slapgraph");
      expect((await fetch(`${system.gatewayUrl}/elsewhere`)).status).toBe(404);
    });
  });

  test("every door says that it lives and is ready, and has metrics", async () => {
    for (const url of [system.gatewayUrl, system.slapUrl, system.shacacheUrl]) {
      for (const path of ["livez", "readyz", "metrics"])
        expect((await fetch(`${url}/${path}`)).status, `${url}/${path}`).toBe(200);
    }
  });
});
