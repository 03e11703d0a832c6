import { afterAll, beforeAll, expect, test } from "vitest";
import { EventLog } from "../../common/event-log.js";
import { RevocationList } from "../../common/revocations.js";
import { createTestDatabase, testLog } from "../support/database.js";
import { readRows } from "../support/ledger.js";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let log: EventLog;
const lists: RevocationList[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  log = await EventLog.open(database.url, testLog);
  lists.push(await RevocationList.open(log.orm, log, testLog), await RevocationList.open(log.orm, log, testLog));
  await readRows(
    database.url,
    `insert into event_log.revoked_token (token_id, expires_at)
     select 'expired-' || i, now() - interval '2 days' from generate_series(1, 2500) as i
     union all select 'good-' || i, now() + interval '1 hour' from generate_series(1, 3) as i
     union all values ('just-expired', now() - interval '1 minute')`,
  );
  await readRows(
    database.url,
    `insert into event_log.event (transaction, position, kind, subject, project, actor, payload)
     select pg_current_xact_id(), nextval('event_log.event_position'), 'TokenRevoked', token_id, 'main', 'test', '{}'
     from event_log.revoked_token`,
  );
});

afterAll(async () => {
  await log.stop();
  for (const list of lists) await list.close();
  await log.close();
  await database.drop();
});

test("a revocation is dropped some time after its token has expired, everywhere, and none before", async () => {
  await log.waitPast(2_503, 10_000, new AbortController().signal);
  const [first, second] = lists as [RevocationList, RevocationList];
  const refused = (list: RevocationList) =>
    ["expired-1", "expired-2500", "good-1", "good-3", "just-expired"].filter(list.isRevoked);
  expect(await first.dropExpired()).toBe(2_500);
  expect(await second.dropExpired()).toBe(0);
  expect(lists.map(refused)).toEqual(Array(2).fill(["good-1", "good-3", "just-expired"]));
  const [row] = await readRows<{ count: string }>(database.url, "select count(*) from event_log.revoked_token");
  expect(Number(row?.count)).toBe(4);
  const later = await RevocationList.open(log.orm, log, testLog);
  expect(refused(later)).toEqual(["good-1", "good-3", "just-expired"]);
  lists.push(later);
});
