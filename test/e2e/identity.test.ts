import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../common/embedded-postgres.js";
import { askTls, type KeyPair } from "../support/authority/drive.js";
import { pairOf } from "../support/authority/scene.js";
import { RunningSystem, type Wiring } from "../support/running-system.js";
import { slapForms, slapPost } from "../support/slap-client.js";
import { Subscriber } from "../support/subscriber.js";
import { waitFor } from "../support/wait-for.js";

const wirings: Wiring[] = ["one process", "apart"];
const follow = "subscription ($after: String) { partitionStateChanged(after: $after) { cursor change { to } } }";

interface AuditNode {
  actor: string;
  actorKind: string;
  door: string;
  action: string;
  target: string | null;
  project: string | null;
  result: string;
  code: string | null;
  requestId: string;
}

/** What an error of a stream, or the close of a socket, is known by. */
function codeOf(error: unknown): object {
  const { code, extensions } = error as { code?: number; extensions?: { code: string } };
  return extensions ? { extensions: { code: extensions.code } } : { code };
}

describe.each(wirings)("%s", (wiring) => {
  let system: RunningSystem;
  let tlsUrl: string;

  beforeAll(async () => {
    const tlsPort = String(await freePort());
    tlsUrl = `https://127.0.0.1:${tlsPort}`;
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error", SLAPGRAPH_SLAP_TLS_PORT: tlsPort }, wiring);
    await mutate('createProject(input: { name: "theirs" })', "project { name }");
  });

  afterAll(() => system.close());

  async function mutate<Payload>(field: string, selection: string, token?: string): Promise<Payload> {
    const data = await system.graphql<Record<string, Payload & { userErrors: { code: string }[] }>>(
      `mutation { ${field} { ${selection} userErrors { code } } }`,
      {},
      token,
    );
    return Object.values(data)[0] as Payload;
  }

  const personToken = async (person: string, role: string, project = "main") => {
    await mutate(`createPerson(input: { subject: "${person}" })`, "person { subject }");
    const input = `person: "${person}", role: ${role}, project: "${project}"`;
    return mutate<{ secret: string; token: { id: string } }>(`createToken(input: { ${input} })`, "secret token { id }");
  };

  const statusOf = async (url: string, init: RequestInit = {}) => {
    const response = await fetch(url, init);
    await response.arrayBuffer();
    return response.status;
  };

  const basic = (token: string) => ({ authorization: `Basic ${Buffer.from(`x:${token}`).toString("base64")}` });

  /** What each door answers to a token: a status that says whether it was let in. */
  const doors = (token: string): Record<string, () => Promise<number>> => ({
    GraphQL: () =>
      statusOf(`${system.gatewayUrl}/graphql`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
        body: '{"query":"{ __typename }"}',
      }),
    "SLAP, in the path": () => statusOf(`${system.slapUrl}/k/${token}/getHateoasUrl`),
    "SLAP, as Basic": () => statusOf(`${system.slapUrl}/getHateoasUrl`, { headers: basic(token) }),
    "Shacache, in the path": () =>
      statusOf(`${system.shacacheUrl}/k/${token}/shadir/key`, { method: "PUT", body: '["{}", ""]' }),
    "Shacache, as Bearer": () =>
      statusOf(`${system.shacacheUrl}/shadir/key`, {
        method: "PUT",
        body: '["{}", ""]',
        headers: { authorization: `Bearer ${token}` },
      }),
  });

  const isLetIn = (status: number) => status === 200 || status === 201;

  async function expectAt(token: string, isGood: boolean): Promise<void> {
    for (const [door, ask] of Object.entries(doors(token)))
      await waitFor(ask, {
        until: (status) => isLetIn(status) === isGood,
        what: `${isGood ? "entry" : "refusal"} at ${door}`,
      });
  }

  const openStreams = async (token: string) => {
    const socket = new Subscriber().followWebSocket(system.gatewayUrl, token, "partitionStateChanged", follow);
    const events = new Subscriber().followEventStream(system.gatewayUrl, token, "partitionStateChanged", follow);
    await waitFor(() => socket.isOpen && events.isOpen, { what: "open subscriptions" });
    return [socket, events] as const;
  };

  const expectEnded = async ([socket, events]: Awaited<ReturnType<typeof openStreams>>) => {
    await waitFor(() => !socket.isOpen && !events.isOpen, { what: "the end of the subscriptions" });
    // On a socket the operation says it, or the close code of the whole connection, whichever comes first.
    expect([[{ code: 4403 }], [{ extensions: { code: "UNAUTHENTICATED" } }]]).toContainEqual(socket.errors.map(codeOf));
    expect(events.errors.map(codeOf)).toEqual([{ extensions: { code: "UNAUTHENTICATED" } }]);
  };

  test("a revoked token is refused at every door, and its open subscriptions end with a reason", async () => {
    const { secret, token } = await personToken("rita", "OWNER");
    await expectAt(secret, true);
    const streams = await openStreams(secret);
    await mutate(`revokeToken(input: { id: "${token.id}" })`, "token { id }");
    await expectAt(secret, false);
    await expectEnded(streams);
  });

  test("an upload that goes on when its token is revoked is cut, and nothing of it is stored", async () => {
    const { secret, token } = await personToken("ursula", "OWNER");
    const bytes = randomBytes(100_000);
    const upload = http.request(`${system.shacacheUrl}/k/${secret}/shacache`, {
      method: "POST",
      headers: { "content-length": bytes.length },
    });
    const cut = new Promise<string>((resolve) => {
      upload.once("error", () => resolve("cut"));
      upload.once("response", (response) => resolve(String(response.statusCode)));
    });
    upload.write(bytes.subarray(0, 50_000));
    await mutate(`revokeToken(input: { id: "${token.id}" })`, "token { id }");
    expect(["cut", "401"]).toContain(await cut);
    upload.destroy();
    const sha512 = createHash("sha512").update(bytes).digest("hex");
    expect(await statusOf(`${system.shacacheUrl}/k/${system.adminToken}/shacache/${sha512}`)).toBe(404);
  });

  test("a person whose role is revoked loses every token of the project, registration tokens too, and none elsewhere", async () => {
    const first = await personToken("rolf", "OWNER");
    const second = await personToken("rolf", "USER");
    const elsewhere = await personToken("rolf", "OWNER", "theirs");
    const registration = await mutate<{ secret: string }>("createRegistrationToken(input: {})", "secret", first.secret);
    const { person } = await system.graphql<{ person: { roles: object[] } }>(
      '{ person(subject: "rolf") { roles { project role } } }',
    );
    expect(person.roles).toEqual([
      { project: "main", role: "OWNER" },
      { project: "main", role: "USER" },
      { project: "theirs", role: "OWNER" },
    ]);
    const { tokens } = await mutate<{ tokens: object[] }>(
      'revokeRole(input: { person: "rolf" })',
      "tokens { tokenId }",
    );
    expect(tokens).toHaveLength(2);
    await expectAt(first.secret, false);
    await expectAt(second.secret, false);
    await expectAt(elsewhere.secret, true);
    expect(await register("late", registration.secret)).toBe(403);
  });

  test("an instance's token sees that instance alone, and ends with it", async () => {
    const { credential: node } = await mutate<{ credential: string }>(
      'createComputer(input: { reference: "HOST" })',
      "credential",
    );
    await slapPost(`${system.slapUrl}/k/${node}/`, "loadComputerConfigurationFromXML", slapForms.format("HOST", 2));
    const request = (title: string) =>
      mutate<{ instance: { reference: string; partition: { key: string } } }>(
        `requestInstance(input: { title: "${title}", releaseUrl: "http://x/", computerReference: "HOST" })`,
        "instance { reference partition { key } }",
      );
    const { instance } = await request("mine");
    await request("other");
    const { credential } = await mutate<{ credential: string }>(
      `createInstanceToken(input: { reference: "${instance.reference}" })`,
      "credential",
    );
    const seen = await system.graphql("{ instances(first: 10) { edges { node { title } } } }", {}, credential);
    expect(seen).toEqual({ instances: { edges: [{ node: { title: "mine" } }] } });
    await mutate(`destroyInstance(input: { reference: "${instance.reference}" })`, "instance { reference }");
    await slapPost(
      `${system.slapUrl}/k/${node}/`,
      "destroyedComputerPartition",
      slapForms.partition(instance.partition.key),
    );
    const graphql = doors(credential).GraphQL ?? (() => Promise.resolve(0));
    await waitFor(graphql, { until: (status) => status === 401, what: "the end of the instance's token" });
  });

  test("a revoked certificate is refused by the TLS listener", async () => {
    const { credential } = await mutate<{ credential: string }>(
      'createComputer(input: { reference: "TLS" })',
      "credential",
    );
    const pair = await pairOf(system, credential, "post.v0.compute_node_certificate", { computer_guid: "TLS" });
    const ask = async (with_: KeyPair) =>
      (await askTls(`${tlsUrl}/getComputerStatus?computer_id=TLS`, "GET", "", with_)).outcome;
    expect(await ask(pair)).toBe("y");
    const list = "{ certificates(first: 100) { edges { node { id subject } } } }";
    const { certificates } = await system.graphql<{
      certificates: { edges: { node: { id: string; subject: string } }[] };
    }>(list);
    const id = certificates.edges.find((edge) => edge.node.subject === "TLS")?.node.id;
    await mutate(`revokeCertificate(input: { id: "${id}" })`, "certificate { id }");
    await waitFor(() => ask(pair), { until: (outcome) => outcome === "!", what: "refusal of the certificate" });
  });

  const register = (title: string, secret: string) =>
    statusOf(`${system.slapUrl}/Person_requestComputer`, {
      method: "POST",
      body: new URLSearchParams({ title }),
      headers: { "x-access-token": secret },
    });

  test("a registration token lets in as many nodes as it was made for, however many come at once", async () => {
    const { secret } = await mutate<{ secret: string }>("createRegistrationToken(input: { uses: 3 })", "secret");
    const answers = await Promise.all(Array.from({ length: 12 }, (_, number) => register(`rack-${number}`, secret)));
    expect(answers.filter((status) => status === 200)).toHaveLength(3);
    expect(answers.filter((status) => status === 403)).toHaveLength(9);
    const list = "{ registrationTokens(first: 100) { edges { node { uses usesLeft } } } }";
    const { registrationTokens } = await system.graphql<{ registrationTokens: { edges: { node: object }[] } }>(list);
    expect(registrationTokens.edges.map((edge) => edge.node)).toContainEqual({ uses: 3, usesLeft: 0 });
  });

  describe("the audit trail", () => {
    const records = async (filter: string, token?: string) => {
      const fields = "actor actorKind door action target project result code requestId";
      const { auditRecords } = await system.graphql<{ auditRecords: { edges: { node: AuditNode }[] } }>(
        `{ auditRecords(last: 100, filter: { ${filter} }) { edges { node { ${fields} } } } }`,
        {},
        token,
      );
      return auditRecords.edges.map((edge) => edge.node);
    };

    test("has what was done and what was refused, from each door, with who and why", async () => {
      const owner = (await personToken("oona", "OWNER")).secret;
      const viewer = (await personToken("vito", "VIEWER")).secret;
      const { credential } = await mutate<{ credential: string }>(
        'createComputer(input: { reference: "AUDITED" })',
        "credential",
        owner,
      );
      await mutate('createComputer(input: { reference: "REFUSED" })', "computer { reference }", viewer);
      const supply = { computer_id: "AUDITED", url: "http://release.example/audited.cfg" };
      const post = (token: string, endpoint: string, fields: Record<string, string>) =>
        statusOf(`${system.slapUrl}/k/${token}/${endpoint}`, { method: "POST", body: new URLSearchParams(fields) });
      expect(await post(owner, "supplySupply", supply)).toBe(200);
      expect(await post(viewer, "supplySupply", supply)).toBe(403);
      expect(await post(credential, "computerBang", { computer_id: "AUDITED", message: "again" })).toBe(200);
      const put = (token: string) =>
        statusOf(`${system.shacacheUrl}/k/${token}/shadir/audited`, { method: "PUT", body: '["{}", ""]' });
      expect(await put(owner)).toBe(201);
      expect(await put(viewer)).toBe(403);

      const done = { result: "DONE", code: null, project: "main" };
      const refused = { result: "REFUSED", code: "FORBIDDEN", project: "main" };
      const by = (actor: string) => ({ actor, actorKind: "PERSON" });
      expect(await records('actor: "oona"')).toMatchObject([
        { ...by("oona"), ...done, door: "GRAPHQL", action: "createComputer", target: "AUDITED" },
        { ...by("oona"), ...done, door: "SLAP", action: "supplySupply", target: `AUDITED ${supply.url}` },
        { ...by("oona"), ...done, door: "SHACACHE", action: "PUT /shadir/*" },
      ]);
      expect(await records('actor: "vito"')).toMatchObject([
        { ...by("vito"), ...refused, door: "GRAPHQL", action: "createComputer", target: "REFUSED" },
        { ...by("vito"), ...refused, door: "SLAP", action: "supplySupply", target: "AUDITED" },
        { ...by("vito"), ...refused, door: "SHACACHE", action: "PUT /shadir/*", target: "audited" },
      ]);
      expect(await records('actor: "AUDITED"')).toMatchObject([{ actorKind: "NODE", action: "computerBang", ...done }]);
      expect(await records('actor: "vito", door: SLAP, result: REFUSED', owner)).toHaveLength(1);
      expect(await records("", viewer)).toEqual([]);
      const theirs = (await personToken("theo", "OWNER", "theirs")).secret;
      expect((await records("", theirs)).filter((record) => record.project !== "theirs")).toEqual([]);
    });

    test("has no reports, no polls and no repeated requests, and no secret that somebody gave as a name", async () => {
      const { secret } = await personToken("quinn", "OWNER");
      const { credential } = await mutate<{ credential: string }>(
        'createComputer(input: { reference: "QUIET" })',
        "credential",
      );
      const call = (target: string, body?: Record<string, string>) =>
        statusOf(
          `${system.slapUrl}/k/${credential}/${target}`,
          body ? { method: "POST", body: new URLSearchParams(body) } : {},
        );
      const usage = "<journal><transaction type='x'><title>x</title></transaction></journal>";
      expect(await call("useComputer", { computer_id: "QUIET", use_string: usage })).toBe(200);
      expect(await call("getFullComputerInformation?computer_id=QUIET")).toBe(200);
      expect(await call("getFullComputerInformation?computer_id=OTHER")).toBe(404);
      expect(await records('actor: "QUIET"')).toEqual([]);
      for (let turn = 0; turn < 2; turn++)
        await mutate('cordonComputer(input: { reference: "QUIET" })', "computer { reference }", secret);
      await mutate(`revokeToken(input: { id: "${credential}" })`, "token { id }", secret);
      const all = await records('actor: "quinn"');
      expect(all.map(({ action, result }) => `${action} ${result}`)).toEqual([
        "cordonComputer DONE",
        "revokeToken REFUSED",
      ]);
      expect(JSON.stringify(all)).not.toContain(credential.slice(0, 40));
    });

    test("the command line shows it, and rotates keys, over the API", async () => {
      const command = path.resolve(import.meta.dirname, "../../dist/cli/slapgraph.js");
      const slapgraph = (...args: string[]) =>
        new Promise<string>((resolve, reject) => {
          const connect = ["--url", `${system.gatewayUrl}/graphql`, "--token", system.adminToken];
          execFile(process.execPath, [command, ...connect, ...args], (error, stdout, stderr) =>
            error ? reject(new Error(stderr)) : resolve(stdout),
          );
        });
      expect(await slapgraph("audit", "list", "--actor", "oona", "--door", "SLAP")).toMatch(
        /oona .*supplySupply .*DONE/,
      );
      expect(await slapgraph("person", "list")).toMatch(/oona .*main:OWNER/);
      expect(await slapgraph("key", "rotate", "--keep-days", "30")).toContain("signs from now on");
      expect((await slapgraph("key", "list")).trim().split("\n")).toHaveLength(3);
      expect(await slapgraph("person", "revoke", "oona")).toContain("revoked 1 tokens of oona");
      await expect(slapgraph("audit", "list", "--since", "yesterday")).rejects.toThrow("is no time");
      // A slip makes no token that lives as long as one without a number.
      for (const wrong of [
        ["token", "create", "--person", "oona", "--role", "OWNER", "--days", "3O"],
        ["registration", "create", "--uses", "x"],
        ["key", "rotate", "--keep-days", ""],
      ])
        await expect(slapgraph(...wrong)).rejects.toThrow("It takes a whole number.");
    });
  });

  describe("the signing key", () => {
    const kidOf = (token: string) =>
      (JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString("utf8")) as { kid: string }).kid;
    const rotate = (days: number) =>
      mutate<{ signingKey: { keyId: string } }>(
        `rotateSigningKey(input: { keepEarlierDays: ${days} })`,
        "signingKey { keyId }",
      );

    test("a new one signs what is made from then on, by every service, and earlier tokens stay good", async () => {
      const before = (await personToken("kim", "OWNER")).secret;
      const { signingKey } = await rotate(10);
      await waitFor(
        async () => {
          const input = `reference: "K-${crypto.randomUUID()}"`;
          return kidOf(
            (await mutate<{ credential: string }>(`createComputer(input: { ${input} })`, "credential")).credential,
          );
        },
        { until: (kid) => kid === signingKey.keyId, what: "a computer's credential by the new key" },
      );
      const after = (await personToken("kit", "OWNER")).secret;
      expect([kidOf(before) === signingKey.keyId, kidOf(after)]).toEqual([false, signingKey.keyId]);
      await expectAt(before, true);
      await expectAt(after, true);
    });

    test("rotations at once lose no key, and a kill in the middle leaves the keys whole", async () => {
      const keys = async () =>
        (await system.graphql<{ signingKeys: { keyId: string }[] }>("{ signingKeys { keyId } }")).signingKeys;
      const earlier = await keys();
      const made = await Promise.all(Array.from({ length: 5 }, () => rotate(10)));
      const present = (await keys()).map((key) => key.keyId);
      expect(present).toEqual(
        expect.arrayContaining([...earlier, ...made.map((one) => one.signingKey)].map((key) => key.keyId)),
      );
      const token = (await personToken("kai", "OWNER")).secret;
      void rotate(10).catch(() => undefined);
      await system.kill();
      await system.start();
      await expectAt(token, true);
      expect((await keys()).length).toBeGreaterThanOrEqual(present.length);
      expect(
        readdirSync(system.dataDir).filter((name) => /^signing-keys\.json\../.test(name)).length,
      ).toBeLessThanOrEqual(1);
    });

    test("kept for no time, earlier keys end at once at every door and in open subscriptions", async () => {
      const before = (await personToken("ken", "OWNER")).secret;
      const streams = await openStreams(before);
      await rotate(0);
      await expectAt(before, false);
      await expectEnded(streams);
      await expectAt((await personToken("kay", "OWNER")).secret, true);
    });
  });
});
