import { afterAll, beforeAll, expect, test } from "vitest";
import { administrator, formatOf, nodeOf, openServices, requestOf, type Services } from "../support/services.js";
import { waitFor } from "../support/wait-for.js";

/** `ALLOCATION_REQUESTS=100000` is the long form. */
const requestCount = Number(process.env.ALLOCATION_REQUESTS ?? 600);
const clients = 8;
/** So many have the patience to wait for room; that is a queue, whatever the number of requests. */
const patient = 150;
const testTimeoutMs = 120_000 + 60 * requestCount;

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

/** Partitions that hold more than one living instance, or one that they do not know of; there must be none. */
async function conflicts(): Promise<unknown[]> {
  return services.sql(`
    select i.partition_key from computer.instance i where i.allocation = 'ALLOCATED' and not i.is_shared
      group by 1 having count(*) > 1
    union all
    select p.key from computer.partition p left join computer.instance i
      on i.partition_key = p.key and i.allocation = 'ALLOCATED' and not i.is_shared
      where p.instance_reference is distinct from i.reference`);
}

test(
  "no partition is given twice and none stays free while a request waits, however many ask and free at once",
  async () => {
    const fleet = ["TIGHT-1", "TIGHT-2", "TIGHT-3"];
    for (const reference of fleet) await newComputer(reference, 5);
    const { instances, partitions } = services.computer;
    let next = 0;
    const given = new Map<string, number>();
    const client = async () => {
      while (next < requestCount) {
        const n = next++;
        const row = await instances.requestInstance(administrator, requestOf(`tight ${n}`));
        if (row.partitionKey == null) {
          // Some wait, the others lose patience, maybe just when they are given room.
          if (n % Math.ceil(requestCount / patient) > 0)
            await instances.setRequestedState(administrator, row.reference, "DESTROYED");
          continue;
        }
        // What was granted at once is given back at once, so that requests and releases meet on every partition.
        given.set(row.partitionKey, (given.get(row.partitionKey) ?? 0) + 1);
        await instances.setRequestedState(administrator, row.reference, "DESTROYED");
        await partitions.reportPartition(nodeOf(row.partitionKey.split("/")[0] ?? ""), row.partitionKey, "destroyed");
      }
    };
    await Promise.all(Array.from({ length: clients }, client));
    expect(await conflicts()).toEqual([]);
    expect(given.size).toBeGreaterThan(0);
    // What waits is given room as the node frees it, until nobody waits.
    const waiting = async () =>
      Number((await services.sql("select count(*) from computer.instance where allocation = 'PENDING'"))[0]?.count);
    while ((await waiting()) > 0) {
      const [free, waits] = await waitFor(
        async () => [
          Number((await services.sql("select count(*) from computer.partition where state = 'FREE'"))[0]?.count),
          await waiting(),
        ],
        {
          until: ([free, waits]) => free === 0 || waits === 0,
          what: "every free partition given to a request that waits",
        },
      );
      if (waits === 0 || free !== 0) break;
      const held = await services.sql<{ key: string; instance_reference: string }>(
        "select key, instance_reference from computer.partition where state <> 'FREE'",
      );
      await Promise.all(
        held.map(async ({ key, instance_reference }) => {
          await instances.setRequestedState(administrator, instance_reference, "DESTROYED");
          await partitions.reportPartition(nodeOf(key.split("/")[0] ?? ""), key, "destroyed");
        }),
      );
      expect(await conflicts()).toEqual([]);
    }
    expect(await waiting()).toBe(0);
  },
  testTimeoutMs,
);

test("the same request at once by many makes one instance", async () => {
  await newComputer("SAME", 3);
  const { instances } = services.computer;
  const same = requestOf("same", { computer_guid: "SAME" });
  const rows = await Promise.all(Array.from({ length: 16 }, () => instances.requestInstance(administrator, same)));
  expect(new Set(rows.map((row) => row.reference)).size).toBe(1);
  expect(new Set(rows.map((row) => row.partitionKey)).size).toBe(1);
});

test("of requests that come together each has a place or a reason of its own and its own record, and a bad one fails alone", async () => {
  await newComputer("FEW", 5);
  const { instances } = services.computer;
  const { audit } = services.resources;
  const outcomes = await Promise.allSettled(
    Array.from({ length: 12 }, (_, n) => {
      const request = { ...requestOf(`few ${n}`, { computer_guid: "FEW" }), parameters: n === 7 ? { a: "\0" } : { n } };
      const command = { door: "SLAP" as const, action: "request", caller: administrator, requestId: `few-${n}` };
      return audit.run({ ...command, target: null }, () => instances.requestInstance(administrator, request));
    }),
  );
  const rows = outcomes.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  expect(outcomes[7]).toMatchObject({ status: "rejected" });
  expect(rows).toHaveLength(11);
  expect(new Set(rows.map(({ parameters }) => parameters.n)).size).toBe(11);
  const placed = rows.filter(({ allocation }) => allocation === "ALLOCATED");
  expect(new Set(placed.map(({ partitionKey }) => partitionKey)).size).toBe(5);
  const waiting = rows.filter(({ allocation }) => allocation === "PENDING");
  expect(waiting).toHaveLength(6);
  for (const { pendingReasons } of waiting) expect(pendingReasons[0]).toMatchObject({ constraint: "state" });
  const records = await services.sql<{ request_id: string; target: string; result: string }>(
    "select request_id, target, result from event_log.audit_record where request_id like 'few-%'",
  );
  expect(records).toHaveLength(12);
  const made = records.filter(({ result }) => result === "DONE");
  const expected = rows.map(({ reference, parameters }) => ({ request_id: `few-${parameters.n}`, target: reference }));
  expect(made).toEqual(expect.arrayContaining(expected.map((one) => expect.objectContaining(one))));
  expect(await conflicts()).toEqual([]);
});

test("a format that races allocations loses none of them, and leaves no free partition that is not listed", async () => {
  await newComputer("RACE", 8);
  const { computers, instances } = services.computer;
  const few = formatOf("RACE", 2);
  const many = formatOf("RACE", 8);
  const formats = async () => {
    for (let turn = 0; turn < 20; turn++) await computers.reportFormat(nodeOf("RACE"), turn % 2 === 0 ? few : many);
  };
  const requests = async () => {
    const rows = [];
    for (let n = 0; n < 8; n++)
      rows.push(await instances.requestInstance(administrator, requestOf(`race ${n}`, { computer_guid: "RACE" })));
    return rows;
  };
  const [, rows] = await Promise.all([formats(), requests()]);
  await computers.reportFormat(nodeOf("RACE"), few);
  for (const { reference } of rows) {
    const [row] = await instances.instancesByReference(administrator, [reference]);
    if (row?.allocation !== "ALLOCATED") continue;
    const [partition] = await services.computer.partitions.partitionsByKey(administrator, [row.partitionKey ?? ""]);
    expect(partition?.instanceReference).toBe(reference);
  }
  expect(await conflicts()).toEqual([]);
  const unlisted =
    "select key from computer.partition where computer_reference = 'RACE' and state = 'FREE' and not is_listed";
  expect(await services.sql(unlisted)).toEqual([]);
});

test("requests from within one tree at once neither exceed its bound nor make a title twice", async () => {
  await newComputer("WIDE", 110);
  const { instances } = services.computer;
  const root = await instances.requestInstance(administrator, requestOf("wide", { computer_guid: "WIDE" }));
  const titles = Array.from({ length: 220 }, (_, n) => `child ${n % 110}`);
  const codes: unknown[] = [];
  // More than there are connections, and no more than can all have had theirs before one is waited for too long.
  const client = async () => {
    for (let title = titles.shift(); title !== undefined; title = titles.shift()) {
      const child = {
        ...requestOf(title, { computer_guid: "WIDE" }),
        requesterPartitionKey: root.partitionKey ?? null,
      };
      await instances.requestInstance(nodeOf("WIDE"), child).catch(({ code }) => codes.push(code));
    }
  };
  await Promise.all(Array.from({ length: 3 * clients }, client));
  expect(new Set(codes)).toEqual(new Set(["STATE_CONFLICT"]));
  const tree = "select title from computer.instance where root_reference = ? and allocation <> 'RELEASED'";
  const members = await services.sql<{ title: string }>(tree, [root.reference]);
  expect(members).toHaveLength(100);
  expect(new Set(members.map(({ title }) => title)).size).toBe(100);
});
