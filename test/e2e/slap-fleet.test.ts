import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { DumpableRecord } from "../../slap/xml-marshaller.js";
import { RunningSystem } from "../support/running-system.js";
import { slapForms, slapPost } from "../support/slap-client.js";
import { Subscriber } from "../support/subscriber.js";
import { waitFor } from "../support/wait-for.js";

const release = "http://releases.example/software.cfg";

interface UserError {
  code: string;
  message: string;
}

interface InstanceView {
  title: string;
  partition: { key: string } | null;
  pendingReasons: { constraint: string; message: string }[];
}

/** Two projects, each with its people, computers and instances, on one master. */
describe("many nodes and projects at the SLAP door", () => {
  let system: RunningSystem;
  const tokens = new Map<string, string>();

  beforeAll(async () => {
    system = await RunningSystem.start({
      SLAPGRAPH_LOG_LEVEL: "warn",
      SLAPGRAPH_NODE_SUSPECT_SECONDS: "4",
      SLAPGRAPH_NODE_LOST_SECONDS: "8",
    });
    await mutate("createProject", { name: "south" }, "project { name }");
    for (const [person, project] of [
      ["nora", "main"],
      ["sam", "south"],
    ] as const) {
      await mutate("createPerson", { subject: person }, "person { subject }");
      const { secret } = await mutate<{ secret: string }>("createToken", { person, role: "USER", project }, "secret");
      tokens.set(person, secret);
    }
    for (const [reference, project, partitions] of [
      ["NORTH-1", "main", 3],
      ["NORTH-2", "main", 3],
      ["SOUTH-1", "south", 5],
    ] as const) {
      const { credential } = await mutate<{ credential: string }>(
        "createComputer",
        { reference, project },
        "credential",
      );
      tokens.set(reference, credential);
      expect(await post(reference, "loadComputerConfigurationFromXML", slapForms.format(reference, partitions))).toBe(
        200,
      );
    }
  });

  afterAll(() => system?.close());

  async function mutate<Payload = object>(
    name: string,
    input: object,
    selection: string,
    type = `${name[0]?.toUpperCase()}${name.slice(1)}Input`,
  ): Promise<Payload> {
    const query = `mutation ($input: ${type}!) { ${name}(input: $input) { ${selection} userErrors { code message } } }`;
    const data = await system.graphql<Record<string, Payload & { userErrors: UserError[] }>>(query, { input });
    expect(data[name]?.userErrors).toEqual([]);
    return data[name] as Payload;
  }

  const urlOf = (who: string) => `${system.slapUrl}/k/${tokens.get(who)}/`;
  const post = async (who: string, endpoint: string, body: string) =>
    (await slapPost(urlOf(who), endpoint, body)).status;
  const get = async (who: string, target: string) => {
    const response = await fetch(urlOf(who) + target);
    return { status: response.status, text: await response.text() };
  };
  const request = (who: string, title: string, filter: DumpableRecord = {}) =>
    slapPost(urlOf(who), "requestComputerPartition", slapForms.request(title, release, {}, filter));
  const computerOf = (answer: string) => /slap_computer_id<\/string><string>([^<]+)/.exec(answer)?.[1] ?? null;
  const instance = async (who: string, title: string) => {
    const query =
      "{ instances(first: 100) { edges { node { title partition { key } pendingReasons { constraint message } } } } }";
    const { instances } = await system.graphql<{ instances: { edges: { node: InstanceView }[] } }>(
      query,
      {},
      tokens.get(who),
    );
    return instances.edges.map(({ node }) => node).find((one) => one.title === title);
  };

  test("a request lands in its own project only, and where its filter says", async () => {
    expect(computerOf((await request("sam", "one")).text)).toBe("SOUTH-1");
    expect(computerOf((await request("nora", "one", { computer_guid: "NORTH-2" })).text)).toBe("NORTH-2");
    expect((await request("sam", "abroad", { computer_guid: "NORTH-1" })).status).toBe(408);
    // What the other project has does not exist, in the reasons either.
    expect((await instance("sam", "abroad"))?.pendingReasons).toEqual([
      { constraint: "computer_guid", message: "The project south has no computer NORTH-1." },
    ]);
    expect((await request("sam", "mine", { project_guid: "south" })).status).toBe(200);
    expect((await request("sam", "theirs", { project_guid: "main" })).status).toBe(408);
    expect(await instance("nora", "mine")).toBeUndefined();
  });

  test("attributes of computers choose among them, the more general one too, and a target that appears is taken", async () => {
    const attributes = (reference: string, values: object[]) =>
      mutate("setComputerAttributes", { reference, attributes: values }, "computer { reference }");
    await attributes("NORTH-1", [
      { name: "region", value: "europe/france" },
      { name: "memory_size", value: "64" },
    ]);
    await attributes("NORTH-2", [{ name: "region", value: "europe/germany" }]);
    expect(computerOf((await request("nora", "france", { region: "europe/france" })).text)).toBe("NORTH-1");
    expect(computerOf((await request("nora", "somewhere", { region: "europe", memory_size: 64 })).text)).toBe(
      "NORTH-1",
    );
    expect((await request("nora", "asia", { region: "asia" })).status).toBe(408);
    expect((await instance("nora", "asia"))?.pendingReasons.map(({ constraint }) => constraint)).toContain("region");
    await attributes("NORTH-2", [{ name: "region", value: "asia/japan" }]);
    const placed = await waitFor(async () => (await instance("nora", "asia"))?.partition?.key, {
      what: "a place in asia",
    });
    expect(placed).toMatch(/^NORTH-2\//);
  });

  test("a filter key that nobody knows is said: to GraphQL as a user error, to the XML client as what it waits for", async () => {
    expect((await request("nora", "typo", { memory_sise: 64 })).status).toBe(408);
    expect(await instance("nora", "typo")).toMatchObject({
      partition: null,
      pendingReasons: [{ constraint: "filter", message: expect.stringContaining("memory_sise") }],
    });
    const input = { title: "typo 2", releaseUrl: release, filter: { memory_sise: 64 } };
    const query =
      "mutation ($input: RequestInstanceInput!) { requestInstance(input: $input) { instance { reference } userErrors { code message path } } }";
    const { requestInstance } = await system.graphql<{ requestInstance: object }>(query, { input }, tokens.get("nora"));
    expect(requestInstance).toEqual({
      instance: null,
      userErrors: [
        { code: "BAD_USER_INPUT", message: expect.stringContaining("memory_sise"), path: ["input", "filter"] },
      ],
    });
    // What is no text could never be met either.
    for (const filter of ["NORTH-1", ["NORTH-1"], { cpu_core: { at: 4 } }, { cpu_core: null }]) {
      const answer = await system.graphql<typeof requestInstance>(query, { input: { ...input, filter } });
      expect(answer).toMatchObject({
        requestInstance: { instance: null, userErrors: [{ code: "BAD_USER_INPUT", path: ["input", "filter"] }] },
      });
    }
    expect(await instance("nora", "typo 2")).toBeUndefined();
  });

  test("why a request is not taken is told of every partition of its project, page by page", async () => {
    const query = `query ($request: RequestInstanceInput!, $after: String) {
      explainAllocation(request: $request, first: 2, after: $after) {
        edges { node { key reasons { constraint } } } pageInfo { hasNextPage endCursor } } }`;
    interface Page {
      edges: { node: { key: string; reasons: { constraint: string }[] } }[];
      pageInfo: { hasNextPage: boolean; endCursor: string };
    }
    const wanted = { title: "why", releaseUrl: release, filter: { region: "europe/france", capability: "gpu" } };
    const candidates: Page["edges"] = [];
    for (let after: string | null = null; ; ) {
      const data: { explainAllocation: Page } = await system.graphql(query, { request: wanted, after });
      candidates.push(...data.explainAllocation.edges);
      after = data.explainAllocation.pageInfo.endCursor;
      if (!data.explainAllocation.pageInfo.hasNextPage) break;
    }
    expect(candidates.map(({ node }) => node.key)).toEqual(
      ["NORTH-1", "NORTH-2"].flatMap((computer) => [0, 1, 2].map((n) => `${computer}/slappart${n}`)),
    );
    for (const { node } of candidates) {
      const constraints = node.reasons.map(({ constraint }) => constraint);
      expect(constraints).toContain("capability");
      expect(constraints.includes("region"), node.key).toBe(node.key.startsWith("NORTH-2"));
    }
  });

  test("instance_guid names the host of a shared instance, and what is not there is told of the instance itself", async () => {
    const hosts = new Map<string, string>();
    for (const title of ["host a", "host b"]) {
      const { status, text } = await request("sam", title);
      expect(status).toBe(200);
      hosts.set(title, /_instance_guid<\/string><string>([^<]+)/.exec(text)?.[1] ?? "");
    }
    const share = (title: string, filter: DumpableRecord) =>
      slapPost(urlOf("sam"), "requestComputerPartition", slapForms.request(title, release, {}, filter, null, true));
    const served = await share("served", { instance_guid: hosts.get("host b") ?? "" });
    expect(computerOf(served.text)).toBe("SOUTH-1");
    expect((await share("unserved", { instance_guid: "SOFTINST-0" })).status).toBe(408);
    const query = `query ($reference: String!) { explainAllocation(instance: $reference, first: 10) { edges { node { key reasons { constraint } } } } }`;
    const { instances } = await system.graphql<{
      instances: { edges: { node: { reference: string; title: string } }[] };
    }>("{ instances(first: 100) { edges { node { reference title } } } }");
    const reference = instances.edges.find(({ node }) => node.title === "unserved")?.node.reference;
    const { explainAllocation } = await system.graphql<{
      explainAllocation: { edges: { node: { key: string; reasons: { constraint: string }[] } }[] };
    }>(query, { reference });
    expect(explainAllocation.edges).toHaveLength(5);
    // Four hold instances, none of them the wanted one; the last is empty.
    const reasons = explainAllocation.edges.map(({ node }) => node.reasons.map(({ constraint }) => constraint));
    expect(reasons).toEqual([...Array.from({ length: 4 }, () => ["instance_guid"]), ["host"]]);
    const host = await get("SOUTH-1", "getFullComputerInformation?computer_id=SOUTH-1");
    expect(host.text).toContain("<string>slave_title</string><string>served</string>");
    expect(host.text).not.toContain("unserved");
  });

  test("members of a tree that ask for it are put into different networks", async () => {
    const network = (reference: string, value: string) =>
      mutate(
        "setComputerAttributes",
        { reference, attributes: [{ name: "network_guid", value }] },
        "computer { reference }",
      );
    const { credential } = await mutate<{ credential: string }>(
      "createComputer",
      { reference: "NORTH-3" },
      "credential",
    );
    tokens.set("NORTH-3", credential);
    expect(await post("NORTH-3", "loadComputerConfigurationFromXML", slapForms.format("NORTH-3", 2))).toBe(200);
    for (const [reference, value] of [
      ["NORTH-1", "net-a"],
      ["NORTH-2", "net-a"],
      ["NORTH-3", "net-b"],
    ] as const)
      await network(reference, value);
    const root = await request("nora", "spread", { computer_guid: "NORTH-3" });
    const key = /slap_computer_partition_id<\/string><string>([^<]+)/.exec(root.text)?.[1] ?? "";
    const child = (title: string) =>
      slapPost(
        urlOf("NORTH-3"),
        "requestComputerPartition",
        `${slapForms.request(title, release, {}, { mode: "unique_by_network" })}&${slapForms.partition(`NORTH-3/${key}`)}`,
      );
    expect(computerOf((await child("second")).text)).toMatch(/^NORTH-[12]$/);
    const third = await child("third");
    expect(third.status).toBe(408);
    await network("NORTH-2", "net-c");
    await network("NORTH-1", "net-d");
    await waitFor(async () => (await child("third")).status, {
      until: (status) => status === 200,
      what: "a third network",
    });
  });

  test("one node's credential neither reads nor reports another's, and its header proves nothing", async () => {
    const key = (await instance("nora", "one"))?.partition?.key ?? "";
    for (const stranger of ["NORTH-1", "SOUTH-1"]) {
      expect((await get(stranger, "getFullComputerInformation?computer_id=NORTH-2")).status).toBe(404);
      expect(await post(stranger, "startedComputerPartition", slapForms.partition(key))).toBe(404);
      expect(await post(stranger, "setComputerPartitionConnectionXml", slapForms.connection(key, { a: "b" }))).toBe(
        404,
      );
      expect(await post(stranger, "softwareInstanceBang", `${slapForms.partition(key)}&message=boo`)).toBe(404);
      expect(await post(stranger, "loadComputerConfigurationFromXML", slapForms.format("NORTH-2", 1))).toBe(404);
      const [computer = "", partition = ""] = key.split("/");
      const claim = { authorization: `X-SlapPartition computer_id=${computer}, computer_partition_id=${partition}` };
      const claimed = await fetch(`${urlOf(stranger)}startedComputerPartition`, {
        method: "POST",
        headers: { ...claim, "content-type": "application/x-www-form-urlencoded" },
        body: "",
      });
      expect(claimed.status).toBe(404);
    }
    expect(await post("NORTH-2", "startedComputerPartition", slapForms.partition(key))).toBe(200);
  });

  test("what a node cannot help is never more than 200, 404 or 408", async () => {
    const free = "NORTH-1/slappart2";
    const statuses = [
      await post("NORTH-1", "startedComputerPartition", slapForms.partition(free)),
      await post("NORTH-1", "softwareInstanceError", slapForms.error(free, "late")),
      await post("NORTH-1", "softwareInstanceBang", `${slapForms.partition(free)}&message=late`),
      await post("NORTH-1", "computerBang", "computer_id=NORTH-1&message=+"),
      await post("NORTH-1", "computerBang", `computer_id=NORTH-1&message=${"long".repeat(2_000)}`),
      await post("NORTH-1", "destroyedComputerPartition", slapForms.partition(free)),
      await post("NORTH-1", "stoppedComputerPartition", slapForms.partition(free)),
      await post("NORTH-1", "setComputerPartitionConnectionXml", slapForms.connection(free, { a: "b" })),
      await post(
        "NORTH-1",
        "softwareReleaseError",
        new URLSearchParams({ computer_id: "NORTH-1", url: "x:y", error_log: "e" }).toString(),
      ),
      (await request("nora", "one", { computer_guid: "NORTH-1" })).status,
      (
        await slapPost(
          urlOf("nora"),
          "requestComputerPartition",
          slapForms.request("never", release, {}, {}, "destroyed"),
        )
      ).status,
    ];
    for (const status of statuses) expect([200, 404, 408]).toContain(status);
  });

  test("of a build's output that is larger than any bound the beginning and the end are kept, and the build is an ERROR", async () => {
    expect(await post("NORTH-1", "supplySupply", slapForms.supply("NORTH-1", release))).toBe(403);
    const supply = { computerReference: "NORTH-1", releaseUrl: release };
    await mutate("supplySoftware", supply, "installation { requestedState }", "SupplySoftwareInput");
    const log = `first line ${"x".repeat(40_000_000)} the error is here: é`;
    const body = new URLSearchParams({ url: release, computer_id: "NORTH-1", error_log: log }).toString();
    expect(await post("NORTH-1", "softwareReleaseError", body)).toBe(200);
    const query = `{ computer(reference: "NORTH-1") { installations(first: 1) { edges { node { reportedState errorLog } } } } }`;
    const { computer } = await system.graphql<{
      computer: { installations: { edges: { node: { reportedState: string; errorLog: string } }[] } };
    }>(query);
    expect(computer.installations.edges[0]?.node).toMatchObject({
      reportedState: "ERROR",
      errorLog: expect.stringMatching(/the error is here: é$/),
    });
  });

  test("cordon stops new allocations, and draining lists what would have to move", async () => {
    const setScope = (name: string) =>
      mutate(name, { reference: "SOUTH-1" }, "computer { scope }", "ComputerReferenceInput");
    await setScope("cordonComputer");
    expect((await request("sam", "late")).status).toBe(408);
    expect((await instance("sam", "late"))?.pendingReasons.map(({ constraint }) => constraint)).toEqual(["scope"]);
    await setScope("drainComputer");
    const query = `{ computer(reference: "SOUTH-1") { scope instances(first: 10) { edges { node { title } } } } }`;
    const { computer } = await system.graphql<{
      computer: { scope: string; instances: { edges: { node: { title: string } }[] } };
    }>(query);
    expect(computer.scope).toBe("DRAINING");
    expect(computer.instances.edges.map(({ node }) => node.title).sort()).toEqual([
      "host a",
      "host b",
      "mine",
      "one",
      "served",
    ]);
    await setScope("uncordonComputer");
    await waitFor(async () => (await instance("sam", "late"))?.partition, {
      what: "a place once the computer is open",
    });
  });

  test("silence is SUSPECT, then LOST, then over at the next word, and the master's own death declares nobody lost", async () => {
    const field = "computerStateChanged";
    const query = `subscription ($after: String) { ${field}(after: $after) { cursor change { from to computer { reference } } } }`;
    const changes = new Subscriber<{ from: string; to: string; computer: { reference: string } }>();
    const poll = () => get("NORTH-1", "getFullComputerInformation?computer_id=NORTH-1");
    const ofNode = () =>
      changes.changes.filter(({ computer }) => computer.reference === "NORTH-1").map(({ from, to }) => `${from} ${to}`);
    await poll();
    const liveness = async () =>
      (await system.graphql<{ computer: { liveness: string } }>(`{ computer(reference: "NORTH-1") { liveness } }`))
        .computer.liveness;
    await waitFor(liveness, { until: (now) => now === "ONLINE", what: "ONLINE" });
    changes.followWebSocket(system.gatewayUrl, system.adminToken, field, query);
    await waitFor(() => changes.isOpen, { what: "an open subscription" });
    await waitFor(() => ofNode().length >= 2, { timeoutMs: 30_000, what: "the end of patience" });
    await poll();
    await waitFor(() => ofNode().length >= 3, { what: "its return" });
    expect(ofNode().slice(0, 3)).toEqual(["ONLINE SUSPECT", "SUSPECT LOST", "LOST ONLINE"]);
    changes.cut();
    await system.kill();
    // Longer than a node may be silent: it is the master that was.
    await delay(9_000);
    await system.start();
    expect(await liveness()).not.toBe("LOST");
    changes.followWebSocket(system.gatewayUrl, system.adminToken, field, query);
    await poll();
    await waitFor(liveness, { until: (now) => now === "ONLINE", what: "ONLINE after the restart" });
    expect(ofNode().slice(3)).not.toContain("SUSPECT LOST");
    changes.cut();
  });
});
