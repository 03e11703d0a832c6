import { afterAll, beforeAll, expect, test } from "vitest";
import { openIdentity } from "../../subgraphs/identity/server.js";
import { createTestDatabase, openTestResources } from "../support/database.js";
import { administrator, person } from "../support/services.js";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let resources: Awaited<ReturnType<typeof openTestResources>>;
let identity: Awaited<ReturnType<typeof openIdentity>>;

beforeAll(async () => {
  database = await createTestDatabase();
  resources = await openTestResources(database.url);
  identity = await openIdentity(resources, () => "");
});

afterAll(async () => {
  await resources.eventLog.stop();
  await identity.close();
  await resources.close();
  await database.drop();
});

const usesLeft = async (id: string) => {
  const [row] = await identity.services.registrations.registrationTokensById(administrator, [id]);
  return row?.usesLeft;
};
const forbidden = { code: "FORBIDDEN" };

test("a token that has expired, was revoked, or is another text, lets nobody in", async () => {
  const { registrations } = identity.services;
  const { row, secret } = await registrations.createRegistrationToken(administrator, { uses: 5 });
  await registrations.beginRegistration(secret, "in time");
  await expect(registrations.beginRegistration(`${secret}x`, "other")).rejects.toMatchObject(forbidden);
  await expect(registrations.beginRegistration("", "none")).rejects.toMatchObject(forbidden);
  const sql = resources.eventLog.orm.em.fork();
  await sql.execute("update identity.registration_token set expires_at = now() where id = ?", [row.id]);
  await expect(registrations.beginRegistration(secret, "late")).rejects.toMatchObject(forbidden);
  await sql.execute("update identity.registration_token set expires_at = now() + interval '1 day' where id = ?", [
    row.id,
  ]);
  await registrations.revokeRegistrationToken(person("olga", "OWNER"), row.id);
  await expect(registrations.beginRegistration(secret, "revoked")).rejects.toMatchObject(forbidden);
});

test("a registration that broke off goes on under its title and costs no second use, however many go on at once", async () => {
  const { registrations } = identity.services;
  const { row, secret } = await registrations.createRegistrationToken(administrator, { uses: 2 });
  const begun = await Promise.all(Array.from({ length: 6 }, () => registrations.beginRegistration(secret, "rack")));
  expect(begun.filter((one) => !one.isResumed)).toHaveLength(1);
  expect(await usesLeft(row.id)).toBe(1);
  await registrations.endRegistration(begun[0]?.tokenId ?? "", "rack", begun[0]?.owner ?? administrator, "COMP-7");
  await expect(registrations.beginRegistration(secret, "rack")).rejects.toMatchObject(forbidden);
  await registrations.beginRegistration(secret, "second");
  await registrations.cancelRegistration(row.id, "second");
  expect(await usesLeft(row.id)).toBe(1);
});

test("a token's maker acts in the project of the token as the owner that it was, and nowhere else", async () => {
  const { registrations, projects } = identity.services;
  await projects.createProject(administrator, "theirs", null);
  const { secret } = await registrations.createRegistrationToken(person("eve", "OWNER", "theirs"), {});
  const { owner } = await registrations.beginRegistration(secret, "rack");
  expect(owner).toMatchObject({ kind: "person", subject: "eve", role: "OWNER", project: "theirs" });
  for (const role of ["USER", "VIEWER"] as const)
    await expect(registrations.createRegistrationToken(person("uma", role), {})).rejects.toMatchObject(forbidden);
});
