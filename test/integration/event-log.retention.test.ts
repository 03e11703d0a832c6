import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EventLog } from "../../common/event-log.js";
import { encodeCursor, streamEvents } from "../../common/event-stream.js";
import { createTestDatabase, testLog } from "../support/database.js";
import { readRows } from "../support/ledger.js";
import { waitFor } from "../support/wait-for.js";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let log: EventLog;
const count = 2_500;
const anHourAgo = () => new Date(Date.now() - 3_600_000);

beforeAll(async () => {
  database = await createTestDatabase();
  log = await EventLog.open(database.url, testLog);
  await readRows(
    database.url,
    `insert into event_log.event (transaction, position, at, kind, subject, project, actor, payload)
     select pg_current_xact_id(), nextval('event_log.event_position'), now() - interval '1 day', 'Tested', i::text, 'main', 'test', '{}'
     from generate_series(1, ${count}) as i`,
  );
  await waitFor(() => log.horizon, { until: (horizon) => horizon === count, what: "the settled events" });
});

afterAll(async () => {
  await log.close();
  await database.drop();
});

const keptAfter = async () => {
  const [row] = await readRows<{ kept_after: string }>(database.url, "select kept_after from event_log.retention");
  return Number(row?.kept_after);
};
const resumeAt = (position: number) =>
  streamEvents(log, { after: encodeCursor(position), toChange: () => null, assertAllowed: () => undefined }).next();

test("old events go in bounded steps, each whole, and never one that a consumer has not handled", async () => {
  await readRows(database.url, "insert into event_log.consumer (name, position) values ('behind', 2200)");
  const other = new Client({ connectionString: database.url });
  await other.connect();
  await other.query("begin");
  await other.query("select from event_log.event where position = 1500 for update");
  const dropping = log.dropBefore(anHourAgo());
  // The second step waits for the row that is held; the first is done.
  await waitFor(keptAfter, { until: (position) => position === 1_000, what: "the first step" });
  await other.query("rollback");
  await other.end();
  expect(await dropping).toBe(2_200);
  expect(await keptAfter()).toBe(2_200);
});

test("a cursor within what is kept goes on, an older one is told what to do", async () => {
  expect((await resumeAt(2_200)).value).toMatchObject({ change: null });
  const refused = await resumeAt(2_199).catch((error: unknown) => error);
  expect(refused).toMatchObject({
    code: "RESUME_EXPIRED",
    message: expect.stringContaining("Read the present state, then subscribe without a cursor"),
  });
});

test("events that are young enough stay", async () => {
  await readRows(database.url, "delete from event_log.consumer");
  await readRows(database.url, "update event_log.event set at = now() where position > 2400");
  expect(await log.dropBefore(anHourAgo())).toBe(200);
  expect((await log.readAfter(2_400)).length).toBe(100);
});
