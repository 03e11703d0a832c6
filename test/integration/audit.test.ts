import { afterAll, beforeAll, expect, test } from "vitest";
import { AuditTrail, type Command, withoutSecrets } from "../../common/audit.js";
import { AppError } from "../../common/errors.js";
import type { Caller } from "../../common/identity.js";
import { administrator, openServices, person, type Services } from "../support/services.js";
import { testLog } from "../support/test-log.js";

let services: Services;

beforeAll(async () => {
  services = await openServices();
});

afterAll(() => services.close());

const commandOf = (caller: Caller, action: string): Command => ({
  door: "GRAPHQL",
  action,
  caller,
  requestId: "test",
  target: null,
});
const countOf = async (action: string) => {
  const [row] = await services.sql<{ count: string }>(
    "select count(*) as count from event_log.audit_record where action = ?",
    [action],
  );
  return Number(row?.count);
};

test("a change whose record cannot be written is not made", async () => {
  const { computers } = services.computer;
  const create = () =>
    services.resources.audit.run(commandOf(administrator, "create"), () =>
      computers.createComputer(administrator, { reference: "UNRECORDED" }),
    );
  await services.sql("alter table event_log.audit_record rename to hidden");
  await expect(create()).rejects.toThrow();
  await services.sql("alter table event_log.hidden rename to audit_record");
  expect(await computers.computersByReference(administrator, ["UNRECORDED"])).toEqual([null]);
  await create();
  expect(await countOf("create")).toBe(1);
});

test("a command of several transactions leaves one record", async () => {
  const { computers } = services.computer;
  await services.resources.audit.run(commandOf(administrator, "both"), async () => {
    await computers.createComputer(administrator, { reference: "ONE" });
    await computers.createComputer(administrator, { reference: "TWO" });
  });
  expect(await countOf("both")).toBe(1);
});

test("what waits, is not known or does not answer is no refusal; a fault of ours is FAILED", async () => {
  const { audit } = services.resources;
  const vera = person("vera", "VIEWER");
  for (const code of ["NOT_READY", "UNAUTHENTICATED", "UNAVAILABLE", "FORBIDDEN"] as const) {
    const refused = async () => {
      throw new AppError(code, "no");
    };
    await expect(audit.run(commandOf(vera, code), refused)).rejects.toThrow();
    expect(await countOf(code), code).toBe(code === "FORBIDDEN" ? 1 : 0);
  }
  const broken = async () => {
    throw new Error("broken");
  };
  await expect(audit.run(commandOf(vera, "fails"), broken)).rejects.toThrow();
  const rows = await services.sql("select result, code from event_log.audit_record where action = 'fails'");
  expect(rows).toEqual([{ result: "FAILED", code: "INTERNAL" }]);
});

test("a caller that is refused in a loop leaves a bounded number of records, and others theirs", async () => {
  const audit = new AuditTrail(services.resources.eventLog.orm, 365, testLog);
  const refuse = (caller: Caller) =>
    audit.run(
      commandOf(caller, "loop"),
      async () => null,
      () => "FORBIDDEN",
    );
  for (let turn = 0; turn < 200; turn++) await refuse(person("mallory", "VIEWER"));
  await refuse(person("alice", "VIEWER"));
  // At most the bound of two minutes, should one end meanwhile.
  expect(await countOf("loop")).toBeLessThanOrEqual(2 * 60 + 1);
  const rows = await services.sql("select 1 from event_log.audit_record where action = 'loop' and actor = 'alice'");
  expect(rows).toHaveLength(1);
});

test("old records are dropped, in steps, and newer ones stay", async () => {
  await services.sql(
    `insert into event_log.audit_record (actor, actor_kind, door, action, result, request_id, at)
     select 'old', 'person', 'SLAP', 'old', 'DONE', 'test', now() - interval '2 years' from generate_series(1, 2500)`,
  );
  const before = await countOf("create");
  expect(await services.resources.audit.dropBefore(new Date(Date.now() - 365 * 86_400_000))).toBe(2500);
  expect([await countOf("old"), await countOf("create")]).toEqual([0, before]);
});

test("tokens of every form are taken out of what is recorded", () => {
  const texts = ["eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln", `reg_${"a".repeat(32)}`, `sg_${"b".repeat(43)}`];
  for (const text of texts) expect(withoutSecrets(`id ${text}!`)).toBe("id ***!");
  expect(withoutSecrets("http://host/k/anything/x")).toBe("http://host/k/***/x");
});
