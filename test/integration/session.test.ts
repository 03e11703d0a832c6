import { afterAll, beforeAll, expect, test } from "vitest";
import { gathered } from "../../common/gathered.js";
import { inSession, inTransaction, textArray } from "../../common/session.js";
import { createTestDatabase, openTestResources } from "../support/database.js";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let resources: Awaited<ReturnType<typeof openTestResources>>;

beforeAll(async () => {
  database = await createTestDatabase();
  resources = await openTestResources(database.url);
  await inSession(orm(), (session) => session.execute("create table kept (n int primary key)"));
});

afterAll(async () => {
  await resources.close();
  await database.drop();
});

const orm = () => resources.eventLog.orm;
const insert = "insert into kept values (?)";
const kept = async () =>
  (await inSession(orm(), (session) => session.execute<{ n: number }[]>("select n from kept order by n"))).map(
    ({ n }) => n,
  );

test("what is sent together is carried out in its order, and committed together", async () => {
  const seen = await inTransaction(orm(), async (session) => {
    session.send(insert, [1]);
    const [before, , after] = await Promise.all([
      session.execute("select * from kept"),
      session.execute(insert, [2]),
      session.execute("select * from kept"),
    ]);
    session.send(insert, [3]);
    return [before.length, after.length];
  });
  expect(seen).toEqual([1, 2]);
  expect(await kept()).toEqual([1, 2, 3]);
});

test("nothing is kept of a transaction one of whose statements failed, whatever was sent with it", async () => {
  const failing = inTransaction(orm(), async (session) => {
    session.send(insert, [4]);
    session.send(insert, [1]);
    session.send(insert, [5]);
  });
  await expect(failing).rejects.toMatchObject({ code: "23505" });
  const thrown = inTransaction(orm(), async (session) => {
    session.send(insert, [4]);
    void session.execute("select 1 / 0");
    throw new Error("thought better of it");
  });
  await expect(thrown).rejects.toThrow("thought better of it");
  expect(await kept()).toEqual([1, 2, 3]);
});

test("connections are as before after transactions that failed, and after their death", async () => {
  const divide = () => inTransaction(orm(), (session) => session.execute("select 1 / 0"));
  const die = () => inTransaction(orm(), (session) => session.execute("select pg_terminate_backend(pg_backend_pid())"));
  const outcomes = await Promise.allSettled(Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? divide() : die())));
  expect(new Set(outcomes.map(({ status }) => status))).toEqual(new Set(["rejected"]));
  const answers = await Promise.all(Array.from({ length: 20 }, () => kept()));
  expect(answers).toEqual(Array.from({ length: 20 }, () => [1, 2, 3]));
});

test("more statements than are kept prepared are carried out too", async () => {
  for (let n = 0; n < 600; n++) {
    const [row] = await inSession(orm(), (session) => session.execute(`select ?::int + ${n} as sum`, [1]));
    expect(row).toEqual({ sum: n + 1 });
  }
});

test("of what is read together, what cannot be read fails alone, and the rest is as of after it was asked", async () => {
  const isKept = gathered(orm(), async (session, names: readonly string[]) => {
    const rows = await session.execute<{ name: string }[]>(
      "select n::text as name from kept where n::text = any(?::text[])",
      [textArray(names)],
    );
    return names.map((name) => rows.some((row) => row.name === name));
  });
  const first = isKept.load("1");
  await inSession(orm(), (session) => session.execute(insert, [6]));
  const outcomes = await Promise.allSettled([first, isKept.load("6"), isKept.load("\0"), isKept.load("7")]);
  expect(outcomes.map((one) => (one.status === "fulfilled" ? one.value : one.reason.code))).toEqual([
    true,
    true,
    "22021",
    false,
  ]);
});

test("texts with anything in them come back out of an array", async () => {
  const texts = ['a"b', "c\\d", "{e,f}", "", "null", "é\n "];
  const [row] = await inSession(orm(), (session) => session.execute("select ?::text[] as texts", [textArray(texts)]));
  expect(row).toEqual({ texts });
});
