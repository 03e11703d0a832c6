import { parse } from "graphql";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toGlobalId } from "../../common/global-id.js";
import type { Caller } from "../../common/identity.js";
import { executeOperation, type Subgraph } from "../../common/subgraph.js";
import { openCatalog } from "../../subgraphs/catalog/server.js";
import { openComputer } from "../../subgraphs/computer/server.js";
import { openIdentity } from "../../subgraphs/identity/server.js";
import { openMonitoring } from "../../subgraphs/monitoring/server.js";
import { createTestDatabase, openTestResources, testLog } from "../support/database.js";
import { administrator, formatOf, nodeOf, person, requestOf, testRelease } from "../support/services.js";
import { waitFor } from "../support/wait-for.js";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let resources: Awaited<ReturnType<typeof openTestResources>>;
let identity: Awaited<ReturnType<typeof openIdentity>>;
let catalog: Awaited<ReturnType<typeof openCatalog>>;
let computer: Awaited<ReturnType<typeof openComputer>>;
let monitoring: Awaited<ReturnType<typeof openMonitoring>>;

beforeAll(async () => {
  database = await createTestDatabase();
  resources = await openTestResources(database.url);
  identity = await openIdentity(resources, (credential) => `http://master/k/${credential}/`);
  catalog = await openCatalog(resources);
  computer = await openComputer(resources, (credential) => `http://master/k/${credential}/`);
  monitoring = await openMonitoring(resources);
  for (const service of [identity, catalog, computer, monitoring]) service.startConsumers();
});

afterAll(async () => {
  await resources.eventLog.stop();
  for (const service of [monitoring, computer, catalog, identity]) await service.close();
  await resources.close();
  await database.drop();
});

async function run(subgraph: Subgraph, caller: Caller, query: string, variables: Record<string, unknown> = {}) {
  const result = await executeOperation(
    subgraph,
    { document: parse(query), variables, isSubscription: false, caller, requestId: "test" },
    testLog,
  );
  if (Symbol.asyncIterator in result) throw new Error("not a query");
  return JSON.parse(JSON.stringify(result)) as {
    data: Record<string, unknown> | null;
    errors?: { message: string; extensions: { code: string } }[];
  };
}

async function newComputer(
  reference: string,
  count: number,
  project = "main",
  capabilities: string[] = [],
): Promise<void> {
  const { computers } = computer.services;
  await computers.createComputer(administrator, { reference, project });
  await computers.reportFormat(nodeOf(reference, project), formatOf(reference, count, capabilities));
}

describe("allocation", () => {
  test("two requests never share a partition, and every free one that fits is found", async () => {
    await newComputer("TIGHT", 20);
    const { instances } = computer.services;
    const rows = await Promise.all(
      Array.from({ length: 30 }, (_, number) =>
        instances.requestInstance(administrator, requestOf(`tight-${number}`, { computer_guid: "TIGHT" })),
      ),
    );
    const keys = rows.flatMap((row) => row.partitionKey ?? []);
    expect(keys).toHaveLength(20);
    expect(new Set(keys).size).toBe(20);
    const pending = rows.filter((row) => row.allocation === "PENDING");
    expect(pending).toHaveLength(10);
    expect(pending[0]?.pendingReasons[0]?.constraint).toBe("state");
  });

  test("the same request at once by many makes one instance, and again changes no revision", async () => {
    await newComputer("SAME", 3);
    const { instances, partitions } = computer.services;
    const same = requestOf("same", { computer_guid: "SAME" });
    const rows = await Promise.all(Array.from({ length: 8 }, () => instances.requestInstance(administrator, same)));
    expect(new Set(rows.map((row) => row.reference)).size).toBe(1);
    const key = rows[0]?.partitionKey ?? "";
    const [before] = await partitions.partitionsByKey(administrator, [key]);
    await instances.requestInstance(administrator, same);
    const [after] = await partitions.partitionsByKey(administrator, [key]);
    expect(after?.revision).toBe(before?.revision);
    await instances.requestInstance(administrator, { ...same, parameters: { changed: "yes" } });
    const [changed] = await partitions.partitionsByKey(administrator, [key]);
    expect(changed?.revision).toBeGreaterThan(before?.revision ?? 0);
  });

  test("a partition with a capability is kept for who asks for it", async () => {
    await newComputer("ABLE", 1, "main", ["gpu"]);
    const { instances } = computer.services;
    const plain = await instances.requestInstance(administrator, requestOf("plain", { computer_guid: "ABLE" }));
    expect(plain.allocation).toBe("PENDING");
    expect(plain.pendingReasons.map((reason) => reason.constraint)).toEqual(["capability"]);
    const able = await instances.requestInstance(
      administrator,
      requestOf("able", { computer_guid: "ABLE", capability: "gpu" }),
    );
    expect(able.partitionKey).toBe("ABLE/slappart0");
  });

  test("a pending request gets its partition when one is freed or the computer it waits for appears", async () => {
    const { instances, partitions } = computer.services;
    const early = await instances.requestInstance(administrator, requestOf("early", { computer_guid: "LATER" }));
    expect(early.pendingReasons).toEqual([
      { constraint: "computer_guid", message: "The project main has no computer LATER." },
    ]);
    await newComputer("LATER", 1);
    const keyOf = async (reference: string) =>
      (await instances.instancesByReference(administrator, [reference]))[0]?.partitionKey;
    await waitFor(() => keyOf(early.reference), { what: "an allocation" });
    const next = await instances.requestInstance(administrator, requestOf("next", { computer_guid: "LATER" }));
    expect(next.allocation).toBe("PENDING");
    await instances.setRequestedState(administrator, early.reference, "DESTROYED");
    await partitions.reportPartition(nodeOf("LATER"), "LATER/slappart0", "destroyed");
    await waitFor(() => keyOf(next.reference), { what: "the freed partition" });
  });

  test("a format never loses an allocation, and removes what is free and no longer listed", async () => {
    await newComputer("SHRINK", 3);
    const { computers, instances, partitions } = computer.services;
    const row = await instances.requestInstance(administrator, requestOf("survivor", { computer_guid: "SHRINK" }));
    expect(row.partitionKey).toBe("SHRINK/slappart0");
    const smaller = formatOf("SHRINK", 3);
    smaller.partitions.splice(0, 2);
    await computers.reportFormat(nodeOf("SHRINK"), smaller);
    const [kept, gone, listed] = await partitions.partitionsByKey(
      administrator,
      [0, 1, 2].map((number) => `SHRINK/slappart${number}`),
    );
    expect(kept).toMatchObject({ instanceReference: row.reference, isListed: false });
    expect(gone).toBeNull();
    expect(listed).toMatchObject({ state: "FREE", isListed: true });
  });
});

describe("reports", () => {
  test("health is as of the event just heard, bang and all, before any consumer has caught up", async () => {
    await newComputer("HEALTH", 1);
    const { instances, partitions } = computer.services;
    const { bangs, health } = monitoring.services;
    const key = "HEALTH/slappart0";
    const now = async () => (await health.healthOf(administrator, [key]))[0]?.health;
    await instances.requestInstance(administrator, requestOf("healthy", { computer_guid: "HEALTH" }));
    expect(await now()).toBe("UNKNOWN");
    await partitions.reportPartition(nodeOf("HEALTH"), key, "started");
    expect(await now()).toBe("GREEN");
    const [before] = await partitions.partitionsByKey(administrator, [key]);
    await bangs.bangPartition(nodeOf("HEALTH"), key, "promise is failing");
    expect(await now()).toBe("RED");
    await partitions.reportPartition(nodeOf("HEALTH"), key, "error", "still failing");
    expect(await now()).toBe("RED");
    await waitFor(async () => (await partitions.partitionsByKey(administrator, [key]))[0]?.revision ?? 0, {
      until: (revision) => revision > (before?.revision ?? 0),
      what: "the bang's new revision",
    });
    await partitions.reportPartition(nodeOf("HEALTH"), key, "started");
    expect(await now()).toBe("GREEN");
  });

  test("a report for a partition that was freed meanwhile changes nothing and is no error", async () => {
    await newComputer("FREED", 1);
    await computer.services.partitions.reportPartition(nodeOf("FREED"), "FREED/slappart0", "started");
    const [row] = await computer.services.partitions.partitionsByKey(administrator, ["FREED/slappart0"]);
    expect(row?.state).toBe("FREE");
  });

  test("a parent is freed after its children, and they are destroyed with it", async () => {
    await newComputer("TREE", 2);
    const { instances, partitions } = computer.services;
    const root = await instances.requestInstance(administrator, requestOf("root", { computer_guid: "TREE" }));
    const child = await instances.requestInstance(nodeOf("TREE"), {
      ...requestOf("child", { computer_guid: "TREE" }),
      requesterPartitionKey: root.partitionKey ?? null,
    });
    expect(child).toMatchObject({ parentReference: root.reference, rootReference: root.reference });
    await instances.setRequestedState(administrator, root.reference, "DESTROYED");
    await partitions.reportPartition(nodeOf("TREE"), root.partitionKey ?? "", "destroyed");
    const state = async (key: string | null | undefined) =>
      (await partitions.partitionsByKey(administrator, [key ?? ""]))[0]?.state;
    expect(await state(root.partitionKey)).toBe("DESTROYING");
    expect(await state(child.partitionKey)).toBe("DESTROYING");
    await partitions.reportPartition(nodeOf("TREE"), child.partitionKey ?? "", "destroyed");
    await partitions.reportPartition(nodeOf("TREE"), root.partitionKey ?? "", "destroyed");
    expect(await state(root.partitionKey)).toBe("FREE");
  });

  test("a child's new connection parameters make its requester's partition be processed again, the same ones do not", async () => {
    await newComputer("CHILD", 2);
    const { instances, partitions } = computer.services;
    const root = await instances.requestInstance(administrator, requestOf("waits", { computer_guid: "CHILD" }));
    const key = root.partitionKey ?? "";
    const child = await instances.requestInstance(nodeOf("CHILD"), {
      ...requestOf("gives", { computer_guid: "CHILD" }),
      requesterPartitionKey: key,
    });
    const revision = async () => (await partitions.partitionsByKey(administrator, [key]))[0]?.revision ?? 0;
    const before = await revision();
    await instances.publishConnection(nodeOf("CHILD"), child.partitionKey ?? "", { url: "http://a/" });
    const after = await revision();
    expect(after).toBeGreaterThan(before);
    await instances.publishConnection(nodeOf("CHILD"), child.partitionKey ?? "", { url: "http://a/" });
    expect(await revision()).toBe(after);
  });
});

describe("who may", () => {
  const partitionId = toGlobalId("ComputerPartition", "OURS/slappart0");

  beforeAll(async () => {
    await run(
      identity.subgraph,
      administrator,
      `mutation { createProject(input: { name: "theirs" }) { userErrors { code } } }`,
    );
    await newComputer("OURS", 2);
    await newComputer("THEIRS", 1, "theirs");
    const row = await computer.services.instances.requestInstance(
      person("alice", "USER"),
      requestOf("alices", { computer_guid: "OURS" }),
    );
    await computer.services.instances.publishConnection(nodeOf("OURS"), row.partitionKey ?? "", { password: "secret" });
  });

  test("what belongs to another project does not exist, in queries, lists, entities and reports", async () => {
    const stranger = person("eve", "OWNER", "theirs");
    expect((await run(computer.subgraph, stranger, `{ computer(reference: "OURS") { id } }`)).data).toEqual({
      computer: null,
    });
    const listed = await run(computer.subgraph, stranger, `{ computers(first: 100) { edges { node { reference } } } }`);
    expect(listed.data).toEqual({ computers: { edges: [{ node: { reference: "THEIRS" } }] } });
    const entities = `query ($of: [_Any!]!) { _entities(representations: $of) { __typename } }`;
    const of = [
      { __typename: "Computer", id: toGlobalId("Computer", "OURS") },
      { __typename: "ComputerPartition", id: partitionId },
    ];
    expect((await run(computer.subgraph, stranger, entities, { of })).data).toEqual({ _entities: [null, null] });
    const health = `query ($of: [_Any!]!) { _entities(representations: $of) { ... on ComputerPartition { health lastBang { message } } } }`;
    expect((await run(monitoring.subgraph, stranger, health, { of: [of[1]] })).data).toEqual({
      _entities: [{ health: null, lastBang: null }],
    });
    await expect(computer.services.nodeViews.viewOf(nodeOf("THEIRS", "theirs"), "OURS")).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    await expect(
      computer.services.partitions.reportPartition(nodeOf("THEIRS", "theirs"), "OURS/slappart0", "started"),
    ).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    await expect(
      monitoring.services.bangs.bangPartition(nodeOf("THEIRS", "theirs"), "OURS/slappart0", "boo"),
    ).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
    await expect(computer.services.installations.supplySoftware(stranger, "OURS", testRelease)).rejects.toMatchObject({
      code: "NOT_FOUND",
    });
  });

  test("a user sees its own instances and partitions and nobody else's, a viewer all but connection parameters", async () => {
    const query = `{ instances(first: 100) { edges { node { title connectionParameters } } }
      computer(reference: "OURS") { partitions(first: 10) { edges { node { key } } } } }`;
    const alice = await run(computer.subgraph, person("alice", "USER"), query);
    expect(alice.data).toEqual({
      instances: { edges: [{ node: { title: "alices", connectionParameters: { password: "secret" } } }] },
      computer: { partitions: { edges: [{ node: { key: "OURS/slappart0" } }] } },
    });
    const bob = await run(computer.subgraph, person("bob", "USER"), query);
    expect(bob.data).toEqual({ instances: { edges: [] }, computer: { partitions: { edges: [] } } });
    const viewer = await run(computer.subgraph, person("vera", "VIEWER"), query);
    expect(JSON.stringify(viewer.data)).toContain("alices");
    expect(JSON.stringify(viewer.data)).not.toContain("secret");
    await expect(
      computer.services.instances.requestInstance(person("vera", "VIEWER"), requestOf("no")),
    ).rejects.toMatchObject({ code: "FORBIDDEN" });
  });

  test("a node's and a viewer's mutations of the project are refused", async () => {
    for (const caller of [nodeOf("OURS"), person("vera", "VIEWER"), person("alice", "USER")]) {
      const result = await run(
        computer.subgraph,
        caller,
        `mutation { createComputer(input: { reference: "NEW" }) { computer { id } credential userErrors { code } } }`,
      );
      const { createComputer } = result.data as {
        createComputer: { computer: null; credential: null; userErrors: { code: string }[] };
      };
      expect(createComputer.computer).toBeNull();
      expect(createComputer.credential).toBeNull();
      expect(["FORBIDDEN", "NOT_FOUND"]).toContain(createComputer.userErrors[0]?.code);
    }
  });

  test("a revoked token is refused at once and everywhere, and revoking again is no error", async () => {
    const { credential } = await computer.services.computers.createComputer(administrator, { reference: "REVOKED" });
    const caller = await resources.tokens.verify(credential);
    const list = `{ tokens(first: 100) { edges { node { tokenId subject } } } }`;
    await waitFor(async () => JSON.stringify((await run(identity.subgraph, administrator, list)).data), {
      until: (text) => text.includes(caller.tokenId ?? "-"),
      what: "the token in identity",
    });
    const revoke = `mutation ($id: String!) { revokeToken(input: { id: $id }) { token { revokedAt } userErrors { code } } }`;
    for (let turn = 0; turn < 2; turn++) {
      const revoked = await run(identity.subgraph, administrator, revoke, { id: caller.tokenId });
      expect(revoked.data).toMatchObject({ revokeToken: { token: { revokedAt: expect.any(String) }, userErrors: [] } });
    }
    await waitFor(
      () =>
        resources.tokens.verify(credential).then(
          () => "good",
          (error: { code: string }) => error.code,
        ),
      { until: (code) => code === "UNAUTHENTICATED", what: "the revocation" },
    );
  });

  test("a project's OWNER makes tokens for persons in it, and none elsewhere", async () => {
    const create = `mutation ($input: CreateTokenInput!) { createToken(input: $input) { secret token { role } userErrors { code } } }`;
    await run(
      identity.subgraph,
      administrator,
      `mutation { createPerson(input: { subject: "carol" }) { userErrors { code } } }`,
    );
    const made = await run(identity.subgraph, person("olga", "OWNER"), create, {
      input: { person: "carol", role: "USER" },
    });
    const { secret } = (made.data as { createToken: { secret: string } }).createToken;
    expect(await resources.tokens.verify(secret)).toMatchObject({
      kind: "person",
      subject: "carol",
      role: "USER",
      project: "main",
    });
    const elsewhere = await run(identity.subgraph, person("olga", "OWNER"), create, {
      input: { person: "carol", role: "USER", project: "theirs" },
    });
    expect(elsewhere.data).toMatchObject({ createToken: { secret: null, userErrors: [{ code: "NOT_FOUND" }] } });
    const user = await run(identity.subgraph, person("alice", "USER"), create, {
      input: { person: "carol", role: "OWNER" },
    });
    expect(user.data).toMatchObject({ createToken: { secret: null, userErrors: [{ code: "FORBIDDEN" }] } });
  });
});

describe("the catalog", () => {
  test("a release is published, deprecated, withdrawn and published again, and referred to before anyone published it", async () => {
    const { products, releases } = catalog.services;
    const release = `${testRelease}?catalog`;
    const of = [{ __typename: "SoftwareRelease", id: toGlobalId("SoftwareRelease", release) }];
    const entities = `query ($of: [_Any!]!) { _entities(representations: $of) { ... on SoftwareRelease { url state product { name } } } }`;
    expect((await run(catalog.subgraph, administrator, entities, { of })).data).toEqual({
      _entities: [{ url: release, state: null, product: null }],
    });
    await products.createProduct(administrator, { name: "thing" });
    await releases.publishRelease(administrator, { productName: "thing", url: release });
    expect((await run(catalog.subgraph, administrator, entities, { of })).data).toEqual({
      _entities: [{ url: release, state: "PUBLISHED", product: { name: "thing" } }],
    });
    expect(await releases.releaseUrlsOfProduct(administrator, "thing")).toEqual([release]);
    await releases.retireRelease(administrator, release, "DEPRECATED", "old");
    await releases.retireRelease(administrator, release, "WITHDRAWN", null);
    expect(await releases.releaseUrlsOfProduct(administrator, "thing")).toEqual([]);
    await expect(releases.retireRelease(administrator, release, "DEPRECATED", null)).rejects.toMatchObject({
      code: "STATE_CONFLICT",
    });
    expect((await releases.publishRelease(administrator, { productName: "thing", url: release })).state).toBe(
      "PUBLISHED",
    );
    await products.createProduct(administrator, { name: "other" });
    await expect(releases.publishRelease(administrator, { productName: "other", url: release })).rejects.toMatchObject({
      code: "ALREADY_EXISTS",
    });
  });
});
