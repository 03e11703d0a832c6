import { Client } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EventLog, type LoggedEvent } from "../../common/event-log.js";
import { decodeCursor, encodeCursor, streamEvents } from "../../common/event-stream.js";
import { createTestDatabase, testLog } from "../support/database.js";
import { waitFor } from "../support/wait-for.js";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let log: EventLog;

beforeAll(async () => {
  database = await createTestDatabase();
  log = await EventLog.open(database.url, testLog);
});

afterAll(async () => {
  await log.close();
  await database.drop();
});

const event = (subject: string) => ({ kind: "Tested", subject, project: "main", actor: "test" });
const append = (subject: string) => log.transact(log.orm, async (_em, add) => add(event(subject)));

async function readAll(after: number, reader = log): Promise<LoggedEvent[]> {
  const all: LoggedEvent[] = [];
  for (let from = after; ; ) {
    const page = await reader.readAfter(from);
    if (page.length === 0) return all;
    all.push(...page);
    from = page.at(-1)?.position ?? from;
  }
}

async function insertByHand(client: Client, subject: string): Promise<void> {
  await client.query(
    `insert into event_log.event (transaction, position, kind, subject, project, actor, payload)
     values (pg_current_xact_id(), nextval('event_log.event_position'), 'Tested', $1, 'main', 'test', '{}')`,
    [subject],
  );
}

test("a long transaction that commits late is neither lost nor out of order", async () => {
  const start = log.horizon;
  const late = new Client({ connectionString: database.url });
  await late.connect();
  await late.query("begin");
  await insertByHand(late, "late");
  for (const subject of ["quick-1", "quick-2", "quick-3"]) await append(subject);
  // What committed after it took a later position: nothing may be shown while an earlier one can still appear.
  expect(await log.waitPast(start, 500, new AbortController().signal)).toBe(false);
  expect((await readAll(start)).map((one) => one.subject)).toEqual([]);
  await late.query("commit");
  await late.end();
  await waitFor(() => readAll(start), { until: (events) => events.length === 4, what: "four settled events" });
  expect((await readAll(start)).map((one) => one.subject)).toEqual(["late", "quick-1", "quick-2", "quick-3"]);
});

test("a long transaction that rolls back leaves no gap that anybody waits for", async () => {
  const start = log.horizon;
  const undone = new Client({ connectionString: database.url });
  await undone.connect();
  await undone.query("begin");
  await insertByHand(undone, "undone");
  await append("kept");
  await undone.query("rollback");
  await undone.end();
  const events = await waitFor(() => readAll(start), { until: (all) => all.length > 0 });
  expect(events.map((one) => one.subject)).toEqual(["kept"]);
});

test("a transaction that began first and changes a noun last comes last for that noun", async () => {
  const start = log.horizon;
  const first = new Client({ connectionString: database.url });
  await first.connect();
  await first.query("create table if not exists public.noun (id int primary key)");
  await first.query("insert into public.noun values (1) on conflict do nothing");
  await first.query("begin");
  // It has a transaction id before the other one, and gets the noun's lock after it.
  await first.query("select pg_current_xact_id()");
  await log.transact(log.orm, async (em, add) => {
    await em.execute("select id from public.noun where id = 1 for update");
    await add(event("second transaction"));
  });
  await first.query("select id from public.noun where id = 1 for update");
  await insertByHand(first, "first transaction");
  await first.query("commit");
  await first.end();
  const events = await waitFor(() => readAll(start), { until: (all) => all.length === 2 });
  expect(events.map((one) => one.subject)).toEqual(["second transaction", "first transaction"]);
});

test("under many writers every reader sees the same sequence, each event once", async () => {
  const start = log.horizon;
  const other = await EventLog.open(database.url, testLog);
  const followed: string[] = [];
  const stream = streamEvents(other, {
    after: encodeCursor(start),
    toChange: (one) => one.subject,
    assertAllowed: () => undefined,
  });
  const following = (async () => {
    for await (const { change } of stream) {
      if (change) followed.push(change);
      if (followed.length === 400) return;
    }
  })();
  const writers = Array.from({ length: 8 }, async (_, writer) => {
    for (let number = 0; number < 50; number++) await append(`${writer}-${number}`);
  });
  await Promise.all(writers);
  await following;
  const read = await waitFor(() => readAll(start), { until: (all) => all.length === 400 });
  expect(followed).toEqual(read.map((one) => one.subject));
  expect(new Set(followed).size).toBe(400);
  await other.close();
});

test("a durable consumer goes on where it stood, past what does not concern it, and a failing handler loses nothing", async () => {
  const name = "tested-consumer";
  const handled: string[] = [];
  let failures = 2;
  const reader = await EventLog.open(database.url, testLog);
  const concerns = ({ subject }: LoggedEvent) => subject.startsWith("durable-");
  reader.consume(reader.orm, {
    name,
    concerns,
    handler: async (_em, events) => {
      if (failures-- > 0) throw new Error("the handler fails");
      handled.push(...events.map((one) => one.subject));
    },
  });
  await append("durable-1");
  await append("durable-2");
  await waitFor(() => handled.length === 2, { what: "handled events" });
  await reader.close();
  await append("durable-3");
  const again = await EventLog.open(database.url, testLog);
  for (let number = 0; number < 250; number++) await append(`no concern of it ${number}`);
  again.consume(again.orm, {
    name,
    concerns,
    handler: async (_em, events) => void handled.push(...events.map((one) => one.subject)),
  });
  await waitFor(() => handled.length === 3, { what: "the third event" });
  expect(handled).toEqual(["durable-1", "durable-2", "durable-3"]);
  await again.close();
});

test("two replicas of a consumer handle each event once", async () => {
  const replicas = await Promise.all([EventLog.open(database.url, testLog), EventLog.open(database.url, testLog)]);
  const handled: string[] = [];
  for (const replica of replicas) {
    replica.consume(replica.orm, {
      name: "replicated",
      concerns: ({ subject }) => subject.startsWith("shared-"),
      handler: async (_em, events) => void handled.push(...events.map((one) => one.subject)),
    });
  }
  for (let number = 0; number < 20; number++) await append(`shared-${number}`);
  await waitFor(() => handled.length >= 20, { what: "handled events" });
  expect(handled).toEqual(Array.from({ length: 20 }, (_, number) => `shared-${number}`));
  await Promise.all(replicas.map((replica) => replica.close()));
});

test("a quiet stream sends a bookmark with which it can be resumed", async () => {
  const stream = streamEvents(log, {
    after: null,
    toChange: () => null,
    assertAllowed: () => undefined,
    bookmarkIntervalMs: 50,
  });
  const first = (await stream.next()).value;
  await append("not for this stream");
  const bookmark = await waitFor(async () => (await stream.next()).value, {
    until: (item) => item !== undefined && decodeCursor(item.cursor) > decodeCursor(first?.cursor ?? ""),
  });
  expect(bookmark?.change).toBeNull();
  await stream.return();
});

test("a stream that is left while it waits ends then, and not with its next bookmark", async () => {
  const stream = streamEvents(log, { after: null, toChange: () => null, assertAllowed: () => undefined });
  await stream.next();
  const waiting = stream.next();
  expect(await stream.return()).toMatchObject({ done: true });
  expect(await waiting).toMatchObject({ done: true });
});

test("a cursor that was not made here is refused, and one of another log or of dropped events has expired", async () => {
  const open = (after: string) =>
    streamEvents(log, { after, toChange: () => null, assertAllowed: () => undefined }).next();
  await expect(open("nonsense")).rejects.toMatchObject({ code: "BAD_CURSOR" });
  await expect(open(encodeCursor(1_000_000))).rejects.toMatchObject({ code: "RESUME_EXPIRED" });
  await log.dropBefore(new Date(Date.now() + 60_000));
  await expect(open(encodeCursor(0))).rejects.toMatchObject({ code: "RESUME_EXPIRED" });
  await append("after the drop");
  await waitFor(() => log.readAfter(log.horizon - 1), {
    until: (events) => events.at(-1)?.subject === "after the drop",
  });
});

test("many followers far behind what is kept in memory read everything, once and in its order", async () => {
  const start = log.horizon;
  const writer = new Client({ connectionString: database.url });
  await writer.connect();
  // Positions that were taken and not used lie between them.
  await writer.query(
    `insert into event_log.event (transaction, position, kind, subject, project, actor, payload)
     select pg_current_xact_id(), nextval('event_log.event_position') + 0 * nextval('event_log.event_position'), 'Tested', 'far-' || i, 'main', 'test', '{}'
     from generate_series(1, 30000) as i`,
  );
  await writer.end();
  await waitFor(() => log.readAfter(log.horizon - 1), { until: ([last]) => last?.subject === "far-30000" });
  const follow = async () => {
    const seen: string[] = [];
    const stream = streamEvents(log, {
      after: encodeCursor(start),
      toChange: (one) => (one.subject.startsWith("far-") ? one.subject : null),
      assertAllowed: () => undefined,
    });
    for await (const { change } of stream) {
      if (change) seen.push(change);
      if (change === "far-30000") return seen;
    }
    return seen;
  };
  const expected = Array.from({ length: 30_000 }, (_, index) => `far-${index + 1}`);
  for (const seen of await Promise.all(Array.from({ length: 5 }, follow))) expect(seen.join()).toBe(expected.join());
});
