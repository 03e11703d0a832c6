import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase } from "../support/database.js";
import { RunningSystem } from "../support/running-system.js";
import { slapForms, slapPost } from "../support/slap-client.js";
import { waitFor } from "../support/wait-for.js";

const release = "http://releases.example/software.cfg";
const computer = "COMP-1";
const kills = 6;

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let system: RunningSystem;
let sql: Client;

beforeAll(async () => {
  database = await createTestDatabase();
  system = await RunningSystem.start({ DATABASE_URL: database.url, SLAPGRAPH_LOG_LEVEL: "fatal" });
  sql = new Client({ connectionString: database.url });
  await sql.connect();
  await system.graphql(`mutation { createComputer(input: { reference: "${computer}" }) { userErrors { code } } }`);
  expect((await say("loadComputerConfigurationFromXML", slapForms.format(computer, 6)))?.status).toBe(200);
});

afterAll(async () => {
  await sql?.end();
  await system?.close();
  await database?.drop();
});

/** Null where no answer came: it may have been done or not, but nothing in between. */
const say = (endpoint: string, body: string) =>
  slapPost(`${system.slapUrl}/k/${system.adminToken}/`, endpoint, body).catch(() => null);

const request = (title: string, parameters: Record<string, string>, state?: string) =>
  say("requestComputerPartition", slapForms.request(title, release, parameters, {}, state ?? null));

const keyOf = (answer: string) =>
  `${computer}/${/slap_computer_partition_id<\/string><string>([^<]+)/.exec(answer)?.[1] ?? "none"}`;

let answers = 0;
/** What was answered with 200, last. */
const acknowledged = new Map<string, { parameter: string; connection: string | null; state: string | null }>();

/** The life of one instance over and over, as a node and its owner would have it. */
async function live(title: string, signal: AbortSignal): Promise<void> {
  for (let turn = 0; !signal.aborted; turn++) {
    const asked = await request(title, { turn: String(turn) });
    if (asked?.status !== 200) continue;
    const key = keyOf(asked.text);
    const fact = { parameter: String(turn), connection: null as string | null, state: null as string | null };
    acknowledged.set(title, fact);
    answers++;
    if (
      (await say("setComputerPartitionConnectionXml", slapForms.connection(key, { turn: `${turn}` })))?.status === 200
    )
      fact.connection = String(turn);
    if ((await say("startedComputerPartition", slapForms.partition(key)))?.status === 200) fact.state = "STARTED";
    if ((await say("softwareInstanceError", slapForms.error(key, `${turn}`)))?.status === 200) fact.state = "ERROR";
    if (turn % 4 !== 3) continue;
    // From here on it may be gone, or half way there.
    acknowledged.delete(title);
    await request(title, {}, "destroyed");
    await say("destroyedComputerPartition", slapForms.partition(key));
  }
}

/** Rows that contradict one another; there must be none, whenever one looks. */
async function contradictions(): Promise<unknown[]> {
  const { rows } = await sql.query(`
    select 'held twice or not at all' as what, p.key as where_ from computer.partition p
      left join computer.instance i on i.partition_key = p.key and i.allocation = 'ALLOCATED' and not i.is_shared
      where p.instance_reference is distinct from i.reference or (p.state = 'FREE') <> (i.reference is null)
    union all
    select 'a state that its last event does not have', p.key from computer.partition p
      where p.state <> coalesce((select coalesce(e.payload->>'to', e.payload->>'state') from event_log.event e
        where e.subject = p.key and e.kind in ('PartitionStateChanged', 'PartitionReported') order by e.position desc limit 1), 'FREE')
    union all
    select 'allocated without a partition', i.reference from computer.instance i
      where i.allocation = 'ALLOCATED' and i.partition_key is null
    union all
    select 'a partition ahead of its computer', p.key from computer.partition p join computer.computer c on c.reference = p.computer_reference
      where p.revision > c.revision`);
  return rows;
}

test("killed between any two lines, nothing that was answered is missing and nothing is half written", async () => {
  for (let kill = 0; kill < kills; kill++) {
    const stop = new AbortController();
    const lives = ["a", "b", "c", "d"].map((title) => live(title, stop.signal));
    const before = answers;
    await waitFor(() => answers, { until: (count) => count > before, timeoutMs: 60_000, what: "a first answer" });
    await delay(Math.random() * 500);
    await system.kill();
    stop.abort();
    await Promise.all(lives);
    expect(await contradictions()).toEqual([]);
    await system.start();
    for (const [title, { parameter, connection, state }] of acknowledged) {
      const { rows } = await sql.query(
        `select i.parameters, i.connection_parameters, p.state from computer.instance i
         join computer.partition p on p.key = i.partition_key where i.title = $1 and i.allocation = 'ALLOCATED'`,
        [title],
      );
      expect(rows, title).toHaveLength(1);
      expect(Number(rows[0].parameters.turn), title).toBeGreaterThanOrEqual(Number(parameter));
      // What the next turn, which got no answer, may have replaced is no loss.
      if (rows[0].parameters.turn !== parameter) continue;
      if (connection !== null) expect(rows[0].connection_parameters.turn, title).toBe(connection);
      if (state === "ERROR") expect(rows[0].state, title).toBe("ERROR");
      if (state === "STARTED") expect(["STARTED", "ERROR"], title).toContain(rows[0].state);
    }
  }
  // What was asked for and not answered is asked for again, and goes on.
  expect((await request("after all", { a: "b" }))?.status).toBe(200);
}, 240_000);
