import { afterAll, beforeAll, expect, test } from "vitest";
import { ComputerInformation } from "../../slap/computer-information.js";
import { administrator, formatOf, nodeOf, openServices, requestOf, type Services } from "../support/services.js";
import { waitFor } from "../support/wait-for.js";

let services: Services;
let information: ComputerInformation;

beforeAll(async () => {
  services = await openServices();
  information = new ComputerInformation(services.computer.nodeViews);
  for (const reference of ["TREE-1", "TREE-2"]) {
    await services.computer.computers.createComputer(administrator, { reference });
    await services.computer.computers.reportFormat(nodeOf(reference), formatOf(reference, 5));
  }
});

afterAll(() => services.close());

/** What the node polls, which is kept as bytes until something in it changes. */
const poll = async (reference: string) => String(await information.read(nodeOf(reference), reference));

const rowOf = async (reference: string) =>
  (await services.computer.instances.instancesByReference(administrator, [reference]))[0];

const revisionOf = async (key: string) =>
  (await services.computer.partitions.partitionsByKey(administrator, [key]))[0]?.revision ?? 0;

test("a root's new name is read, and processed, by the nodes of its whole tree", async () => {
  const { instances } = services.computer;
  const root = await instances.requestInstance(administrator, requestOf("old name", { computer_guid: "TREE-1" }));
  const child = await instances.requestInstance(nodeOf("TREE-1"), {
    ...requestOf("child", { computer_guid: "TREE-2" }),
    requesterPartitionKey: root.partitionKey ?? "",
  });
  const before = await revisionOf(child.partitionKey ?? "");
  expect(await poll("TREE-2")).toContain("old name");
  await instances.renameInstance(administrator, root.reference, "new name");
  expect(await poll("TREE-2")).toContain("<string>root_instance_title</string><string>new name</string>");
  expect(await revisionOf(child.partitionKey ?? "")).toBeGreaterThan(before);
});

test("a shared instance that failed is well again when its host publishes for it, also what it has published before", async () => {
  const { instances } = services.computer;
  const host = await instances.requestInstance(administrator, requestOf("host", { computer_guid: "TREE-1" }));
  const root = await instances.requestInstance(administrator, requestOf("root", { computer_guid: "TREE-2" }));
  const { reference } = await instances.requestInstance(nodeOf("TREE-2"), {
    ...requestOf("served", { instance_guid: host.reference }),
    requesterPartitionKey: root.partitionKey ?? "",
    isShared: true,
  });
  const node = nodeOf("TREE-1");
  const key = host.partitionKey ?? "";
  await instances.publishConnection(node, key, { url: "http://served/" }, reference);
  expect(await rowOf(reference)).toMatchObject({ reportedState: "STARTED" });
  await instances.reportSharedError(node, key, reference, "no route");
  expect(await rowOf(reference)).toMatchObject({ reportedState: "ERROR" });
  const before = await revisionOf(root.partitionKey ?? "");
  await instances.publishConnection(node, key, { url: "http://served/" }, reference);
  expect(await rowOf(reference)).toMatchObject({ reportedState: "STARTED" });
  // Who requested it has nothing new to read.
  expect(await revisionOf(root.partitionKey ?? "")).toBe(before);
});

test("the end of an instance can be requested again while its node has not brought it about", async () => {
  const { instances } = services.computer;
  const request = requestOf("ending", { computer_guid: "TREE-2" });
  const { reference } = await instances.requestInstance(administrator, request);
  for (let time = 0; time < 2; time++) {
    const ending = await instances.requestPlacement(administrator, { ...request, requestedState: "DESTROYED" });
    expect(ending).toMatchObject({ instance: { reference, requestedState: "DESTROYED" }, partition: {} });
  }
  for (const requestedState of [null, "STARTED"] as const) {
    const again = instances.requestInstance(administrator, { ...request, requestedState });
    await expect(again).rejects.toMatchObject({ code: "STATE_CONFLICT" });
  }
});

test("a request for a network of its own tries again when another computer leaves the network that held its tree", async () => {
  const { computers, instances } = services.computer;
  const inNetwork = (reference: string, value: string) =>
    computers.setAttributes(administrator, reference, [{ name: "network_guid", value }]);
  const create = async (reference: string) => {
    await computers.createComputer(administrator, { reference });
    await computers.reportFormat(nodeOf(reference), formatOf(reference, 1));
  };
  const untilPlaced = (reference: string) =>
    waitFor(() => rowOf(reference), { until: (row) => row?.allocation === "ALLOCATED", what: "a place" });
  for (const reference of ["NET-1", "NET-2"]) {
    await create(reference);
    await inNetwork(reference, "one");
  }
  const root = await instances.requestInstance(administrator, requestOf("alone", { computer_guid: "NET-1" }));
  const child = await instances.requestInstance(nodeOf("NET-1"), {
    ...requestOf("apart", { computer_guid: "NET-2", mode: "unique_by_network" }),
    requesterPartitionKey: root.partitionKey ?? "",
  });
  expect(child).toMatchObject({ allocation: "PENDING", pendingReasons: [{ constraint: "mode" }] });
  // What is placed by an event shows that all events before it were seen.
  const last = await instances.requestInstance(administrator, requestOf("last", { computer_guid: "NET-3" }));
  await create("NET-3");
  await untilPlaced(last.reference);
  expect(await rowOf(child.reference)).toMatchObject({ allocation: "PENDING" });
  await inNetwork("NET-1", "two");
  expect((await untilPlaced(child.reference))?.partitionKey).toMatch(/^NET-2\//);
});
