import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { administrator, formatOf, nodeOf, openServices, requestOf, type Services } from "../support/services.js";
import { waitFor } from "../support/wait-for.js";

let services: Services;

beforeAll(async () => {
  services = await openServices();
});

afterAll(() => services.close());

async function newComputer(reference: string, partitions: number): Promise<void> {
  const { computers } = services.computer;
  await computers.createComputer(administrator, { reference });
  await computers.reportFormat(nodeOf(reference), formatOf(reference, partitions));
}

/** A computer with all of its partitions allocated; their keys. */
async function fullComputer(reference: string, partitions: number): Promise<string[]> {
  await newComputer(reference, partitions);
  const rows = [];
  for (let n = 0; n < partitions; n++) {
    const request = requestOf(`${reference} ${n}`, { computer_guid: reference });
    rows.push(await services.computer.instances.requestInstance(administrator, request));
  }
  return rows.map((row) => row.partitionKey ?? "");
}

const partition = async (key: string) =>
  (await services.computer.partitions.partitionsByKey(administrator, [key]))[0] ?? null;

/** What was said of a partition, as the log has it. */
const statesInLog = async (key: string) =>
  (
    await services.sql<{ kind: string; payload: { to?: string; state?: string } }>(
      "select kind, payload from event_log.event where subject = ? and kind like 'Partition%' order by position",
      [key],
    )
  ).map(({ payload }) => payload.to ?? payload.state);

describe("reports at once", () => {
  test("two nodes that post at once: every report is kept, in the order of each partition", async () => {
    const keys = [...(await fullComputer("BUSY-1", 5)), ...(await fullComputer("BUSY-2", 5))];
    const turns = ["started", "error", "stopped", "started", "error"] as const;
    await Promise.all(
      keys.map(async (key) => {
        const node = nodeOf(key.split("/")[0] ?? "");
        for (const state of turns)
          await services.computer.partitions.reportPartition(node, key, state, state === "error" ? "fails" : null);
      }),
    );
    for (const key of keys) {
      expect(await partition(key)).toMatchObject({ state: "ERROR", message: "fails" });
      expect(await statesInLog(key)).toEqual(["ALLOCATED", "STARTED", "ERROR", "STOPPED", "STARTED", "ERROR"]);
    }
  });

  test("in a burst, what is refused is refused alone", async () => {
    const keys = await fullComputer("BURST", 3);
    const { partitions } = services.computer;
    const outcomes = await Promise.allSettled([
      ...keys.map((key) => partitions.reportPartition(nodeOf("BURST"), key, "started")),
      partitions.reportPartition(nodeOf("BURST"), "BURST/slappart99", "started"),
      partitions.reportPartition(nodeOf("BUSY-1"), keys[0] ?? "", "error", "not its partition"),
      ...keys.map((key) => partitions.reportPartition(nodeOf("BURST"), key, "stopped")),
    ]);
    const codes = outcomes.map((one) => (one.status === "rejected" ? one.reason.code : "done"));
    expect(codes).toEqual(["done", "done", "done", "NOT_FOUND", "NOT_FOUND", "done", "done", "done"]);
    for (const key of keys) expect(await partition(key)).toMatchObject({ state: "STOPPED", message: null });
  });

  test("of values published at once the last one stands, and who waits for them is processed again", async () => {
    await newComputer("GIVES", 2);
    const { instances } = services.computer;
    const root = await instances.requestInstance(administrator, requestOf("waits", { computer_guid: "GIVES" }));
    const child = await instances.requestInstance(nodeOf("GIVES"), {
      ...requestOf("gives", { computer_guid: "GIVES" }),
      requesterPartitionKey: root.partitionKey ?? null,
    });
    const before = (await partition(root.partitionKey ?? ""))?.revision ?? 0;
    const values = Array.from({ length: 40 }, (_, n) => ({ url: `http://${n}.example/` }));
    await Promise.all(
      values.map((value) => instances.publishConnection(nodeOf("GIVES"), child.partitionKey ?? "", value)),
    );
    const [row] = await instances.instancesByReference(administrator, [child.reference]);
    expect(row?.connectionParameters).toEqual(values.at(-1));
    expect((await partition(root.partitionKey ?? ""))?.revision).toBeGreaterThan(before);
  });

  test("a poll after an answered report has it, whatever else is going on", async () => {
    const keys = await fullComputer("FRESH", 4);
    const { partitions, nodeViews } = services.computer;
    const node = nodeOf("FRESH");
    await Promise.all(
      keys.map(async (key) => {
        for (let turn = 0; turn < 15; turn++) {
          const before = await nodeViews.revisionOf(node, "FRESH");
          await partitions.reportPartition(node, key, "error", `turn ${turn}`);
          expect(await nodeViews.revisionOf(node, "FRESH")).toBeGreaterThan(before);
          const { partitions: shown } = await nodeViews.viewOf(node, "FRESH");
          expect(shown.find((one) => one.key === key)?.hosted?.partition.message).toBe(`turn ${turn}`);
        }
      }),
    );
  });
});

describe("reports in the wrong order", () => {
  test("what comes after the end, or before the beginning, changes nothing and is no error", async () => {
    const [key = ""] = await fullComputer("LATE", 1);
    const { instances, partitions } = services.computer;
    const node = nodeOf("LATE");
    const [{ instance_reference: reference }] = (await services.sql(
      "select instance_reference from computer.partition where key = ?",
      [key],
    )) as [{ instance_reference: string }];
    // Nobody has asked for its end.
    await partitions.reportPartition(node, key, "destroyed");
    expect(await partition(key)).toMatchObject({ state: "ALLOCATED", instanceReference: reference });
    await instances.setRequestedState(administrator, reference, "DESTROYED");
    // Stopping is on the way to the end, and an error or a start does not call it off.
    for (const state of ["stopped", "started", "error"] as const) {
      await partitions.reportPartition(node, key, state, state === "error" ? "on the way" : null);
      expect((await partition(key))?.state).toBe("DESTROYING");
    }
    await partitions.reportPartition(node, key, "destroyed");
    for (const state of ["destroyed", "stopped", "started", "error"] as const)
      await partitions.reportPartition(node, key, state, null);
    expect(await partition(key)).toMatchObject({ state: "FREE", instanceReference: null, message: null });
    const [row] = await instances.instancesByReference(administrator, [reference]);
    expect(row).toMatchObject({ allocation: "RELEASED", reportedState: "DESTROYED" });
  });

  test("a partition freed and given away at once with late reports is held by one instance or none", async () => {
    const [key = ""] = await fullComputer("SWAP", 1);
    const { instances, partitions } = services.computer;
    const node = nodeOf("SWAP");
    for (let turn = 0; turn < 10; turn++) {
      const holder = (await partition(key))?.instanceReference ?? "";
      await instances.setRequestedState(administrator, holder, "DESTROYED");
      const next = requestOf(`swap ${turn}`, { computer_guid: "SWAP" });
      const [, , row] = await Promise.all([
        partitions.reportPartition(node, key, "destroyed"),
        partitions.reportPartition(node, key, "started"),
        instances.requestInstance(administrator, next),
      ]);
      await waitFor(async () => (await partition(key))?.instanceReference ?? null, {
        until: (reference) => reference === row.reference,
        what: "the next instance in the partition",
      });
      const [old] = await instances.instancesByReference(administrator, [holder]);
      expect(old).toMatchObject({ allocation: "RELEASED", partitionKey: null });
    }
  });
});

describe("revisions", () => {
  const future = 4_102_444_800_000_000;

  test("grow though the clock has stepped back, also of a partition that was removed and made again", async () => {
    const [key = ""] = await fullComputer("CLOCK", 2);
    const { computers, instances, nodeViews } = services.computer;
    // What a clock that was ahead has left behind.
    await services.sql("update computer.computer set revision = ? where reference = 'CLOCK'", [future]);
    await services.sql("update computer.partition set revision = ? where computer_reference = 'CLOCK'", [future]);
    const changed = { ...requestOf("CLOCK 0", { computer_guid: "CLOCK" }), parameters: { a: "b" } };
    await instances.requestInstance(administrator, changed);
    const first = (await partition(key))?.revision ?? 0;
    expect(first).toBeGreaterThan(future);
    expect(await nodeViews.revisionOf(nodeOf("CLOCK"), "CLOCK")).toBeGreaterThan(future);
    await instances.requestInstance(administrator, { ...changed, parameters: { a: "c" } });
    expect((await partition(key))?.revision).toBeGreaterThan(first);
    await computers.reportFormat(nodeOf("CLOCK"), formatOf("CLOCK", 3));
    const made = (await partition("CLOCK/slappart2"))?.revision ?? 0;
    expect(made).toBeGreaterThan(future);
    await computers.reportFormat(nodeOf("CLOCK"), formatOf("CLOCK", 2));
    await computers.reportFormat(nodeOf("CLOCK"), formatOf("CLOCK", 3));
    expect((await partition("CLOCK/slappart2"))?.revision).toBeGreaterThan(made);
  });

  test("two changes at one moment are two revisions", async () => {
    const [key = ""] = await fullComputer("TICK", 1);
    const { instances } = services.computer;
    const seen = new Set([(await partition(key))?.revision]);
    for (let turn = 0; turn < 30; turn++) {
      const request = { ...requestOf("TICK 0", { computer_guid: "TICK" }), parameters: { turn } };
      await instances.requestInstance(administrator, request);
      seen.add((await partition(key))?.revision);
    }
    expect(seen.size).toBe(31);
  });
});
