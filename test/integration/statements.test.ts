import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Caller } from "../../common/identity.js";
import { startGateway } from "../../gateway/server.js";
import { openCatalog } from "../../subgraphs/catalog/server.js";
import { openComputer } from "../../subgraphs/computer/server.js";
import { openMonitoring } from "../../subgraphs/monitoring/server.js";
import { adminToken, createTestDatabase, openTestResources, testLog } from "../support/database.js";

const administrator: Caller = { kind: "administrator", subject: "administrator" };
const url = (number: number) => `http://release.example/${number}.cfg`;

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let resources: Awaited<ReturnType<typeof openTestResources>>;
let services: { close(): Promise<unknown> }[];
let gateway: Awaited<ReturnType<typeof startGateway>>;

/** Every statement that this process sends, as the driver sends it. */
const statements: string[] = [];
const send = Client.prototype.query;

beforeAll(async () => {
  database = await createTestDatabase();
  resources = await openTestResources(database.url);
  const catalog = await openCatalog(resources);
  const computer = await openComputer(resources, () => "");
  const monitoring = await openMonitoring(resources);
  services = [catalog, computer, monitoring];
  gateway = await startGateway({
    host: "127.0.0.1",
    port: 0,
    tokens: resources.tokens,
    subgraphs: [catalog.subgraph, computer.subgraph, monitoring.subgraph],
    checkReady: async () => undefined,
    log: testLog,
  });
  await catalog.services.products.createProduct(administrator, { name: "product" });
  for (const [reference, count] of [
    ["TEN", 10],
    ["HUNDRED", 100],
  ] as const) {
    await computer.services.computers.createComputer(administrator, { reference });
    const partitions = Array.from({ length: count }, (_, number) => ({
      reference: `p${number}`,
      addresses: [],
      routedAddresses: [],
      capabilities: [],
    }));
    const report = { reference, slaposVersion: null, pythonVersion: null, osType: null, partitions };
    await computer.services.computers.reportFormat(administrator, report);
    for (let number = 0; number < count; number++) {
      await catalog.services.releases.publishRelease(administrator, { productName: "product", url: url(number) });
      const row = await computer.services.instances.requestInstance(administrator, {
        title: `${reference}-${number}`,
        releaseUrl: url(number),
        softwareType: "default",
        parameters: {},
        filter: { computer_guid: reference },
        requestedState: null,
      });
      await monitoring.services.bangs.bangPartition(administrator, row.partitionKey ?? "", "failing");
    }
  }
  Client.prototype.query = function (this: Client, ...args: unknown[]) {
    const [query] = args as [string | { text?: string }];
    statements.push(typeof query === "string" ? query : (query.text ?? ""));
    return (send as (...all: unknown[]) => unknown).apply(this, args);
  } as typeof send;
});

afterAll(async () => {
  Client.prototype.query = send;
  await gateway.close();
  await resources.eventLog.stop();
  for (const service of services) await service.close();
  await resources.close();
  await database.drop();
});

async function statementsOf(query: string): Promise<{ sent: string[]; text: string }> {
  statements.splice(0);
  const response = await fetch(`${gateway.url}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${adminToken}` },
    body: JSON.stringify({ query }),
  });
  const text = await response.text();
  expect(text).not.toContain('"errors"');
  // The log's own reader polls in the background whatever is asked.
  return {
    sent: statements.filter(
      (one) =>
        !/event_position|actor, cause, payload from event_log|pg_snapshot|pg_notify|pg_current_xact_id/.test(one),
    ),
    text,
  };
}

const shortened = (sent: string[]) => sent.map((one) => one.slice(0, 100)).join("\n");

const joined = `partitions(first: 100) { edges { node { key state health lastBang { message } computer { reference }
  instance { reference title parent { title } children { title } softwareRelease { url product { name title } } } } } }`;

test("a hundred partitions with instances, releases and health cost as many statements as ten", async () => {
  await statementsOf(`{ computer(reference: "TEN") { ${joined} } }`);
  const ten = await statementsOf(`{ computer(reference: "TEN") { ${joined} } }`);
  const hundred = await statementsOf(`{ computer(reference: "HUNDRED") { ${joined} } }`);
  expect(hundred.text.match(/"health":"RED"/g)).toHaveLength(100);
  expect(hundred.text.match(/"name":"product"/g)).toHaveLength(100);
  expect(hundred.sent.length, shortened(hundred.sent)).toBeLessThanOrEqual(ten.sent.length);
  expect(hundred.sent.length).toBeLessThanOrEqual(20);
});

test("a list of computers with their partitions costs as many statements as one", async () => {
  const one = await statementsOf(`{ computers(first: 1) { edges { node { reference ${joined} } } } }`);
  const two = await statementsOf(`{ computers(first: 2) { edges { node { reference ${joined} } } } }`);
  expect(two.sent.length, shortened(two.sent)).toBeLessThanOrEqual(one.sent.length);
});

test("an event that is told without its partition reads none, and one with it reads it", async () => {
  const selects = async (selection: string) => {
    const abort = new AbortController();
    const response = await fetch(`${gateway.url}/graphql`, {
      method: "POST",
      signal: abort.signal,
      headers: {
        accept: "text/event-stream",
        "content-type": "application/json",
        authorization: `Bearer ${adminToken}`,
      },
      body: JSON.stringify({ query: `subscription { partitionStateChanged { change { to ${selection} } } }` }),
    });
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk);
      if (text.includes('"ERROR"')) break;
      if (!text.includes('"change":null')) continue;
      statements.splice(0);
      const payload = { from: "STARTED", to: "ERROR", instance: null, owner: null };
      await resources.eventLog.transact(resources.eventLog.orm, async (_em, append) =>
        append({ kind: "PartitionStateChanged", subject: "TEN/p0", project: "main", actor: "test", payload }),
      );
    }
    abort.abort();
    expect(text).not.toContain('"errors"');
    return statements.filter((one) => /"partition"/.test(one)).length;
  };
  expect(await selects("")).toBe(0);
  expect(await selects("partition { state }")).toBe(1);
});
