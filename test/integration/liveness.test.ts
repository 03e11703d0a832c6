import { afterAll, beforeAll, expect, test } from "vitest";
import { administrator, formatOf, nodeOf, openServices, type Services } from "../support/services.js";

const minuteMs = 60_000;
const thresholds = { suspectAfterMs: 10 * minuteMs, lostAfterMs: 60 * minuteMs };

let services: Services;

beforeAll(async () => {
  services = await openServices();
});

afterAll(() => services.close());

async function newNode(reference: string): Promise<void> {
  const { computers } = services.computer;
  await computers.createComputer(administrator, { reference });
  await computers.reportFormat(nodeOf(reference), formatOf(reference, 1));
}

/** As if the node had last been heard of so long ago. */
const silentFor = (reference: string, ms: number) =>
  services.sql(
    "update computer.computer set last_contact_at = now() - ? * interval '1 millisecond' where reference = ?",
    [ms, reference],
  );

const liveness = async (reference: string) =>
  (await services.computer.computers.computersByReference(administrator, [reference]))[0]?.liveness;

const changes = async (reference: string) =>
  (
    await services.sql<{ payload: { from: string; to: string } }>(
      "select payload from event_log.event where kind = 'ComputerStateChanged' and subject = ? order by position",
      [reference],
    )
  ).map(({ payload }) => `${payload.from} ${payload.to}`);

test("a node is ONLINE when it is heard of, SUSPECT and LOST in silence, and back at its next word, each an event", async () => {
  await newNode("QUIET");
  const { computers } = services.computer;
  expect(await liveness("QUIET")).toBe("UNSEEN");
  await computers.noteContact(nodeOf("QUIET"), minuteMs);
  await silentFor("QUIET", 11 * minuteMs);
  await computers.sweepLiveness(2 * thresholds.lostAfterMs, thresholds);
  expect(await liveness("QUIET")).toBe("SUSPECT");
  await silentFor("QUIET", 61 * minuteMs);
  await computers.sweepLiveness(2 * thresholds.lostAfterMs, thresholds);
  expect(await liveness("QUIET")).toBe("LOST");
  await computers.noteContact(nodeOf("QUIET"), minuteMs);
  expect(await liveness("QUIET")).toBe("ONLINE");
  expect(await changes("QUIET")).toEqual(["UNSEEN ONLINE", "ONLINE SUSPECT", "SUSPECT LOST", "LOST ONLINE"]);
});

test("a master that could not be reached itself declares nobody lost", async () => {
  await newNode("PATIENT");
  const { computers } = services.computer;
  await computers.noteContact(nodeOf("PATIENT"), minuteMs);
  await silentFor("PATIENT", 5 * 60 * minuteMs);
  await computers.sweepLiveness(minuteMs, thresholds);
  expect(await liveness("PATIENT")).toBe("ONLINE");
  // Up for long enough to suspect, not long enough to give up.
  await computers.sweepLiveness(11 * minuteMs, thresholds);
  expect(await liveness("PATIENT")).toBe("SUSPECT");
  await computers.sweepLiveness(12 * minuteMs, thresholds);
  expect(await liveness("PATIENT")).toBe("SUSPECT");
});

test("contacts are not written as often as they come, and none is lost that would change something", async () => {
  await newNode("CHATTY");
  const { computers } = services.computer;
  const written = async () =>
    String(
      (await services.sql("select last_contact_at as at from computer.computer where reference = 'CHATTY'"))[0]?.at,
    );
  await computers.noteContact(nodeOf("CHATTY"), minuteMs);
  const first = await written();
  for (let turn = 0; turn < 50; turn++) await computers.noteContact(nodeOf("CHATTY"), minuteMs);
  expect(await written()).toBe(first);
});

test("sweeping twice at once says each change once, however many are silent", async () => {
  const references = Array.from({ length: 30 }, (_, n) => `MANY-${n}`);
  for (const reference of references) {
    await newNode(reference);
    await services.computer.computers.noteContact(nodeOf(reference), minuteMs);
    await silentFor(reference, 11 * minuteMs);
  }
  const sweep = () => services.computer.computers.sweepLiveness(2 * thresholds.lostAfterMs, thresholds);
  await Promise.all([sweep(), sweep(), sweep()]);
  await sweep();
  for (const reference of references) expect(await changes(reference)).toEqual(["UNSEEN ONLINE", "ONLINE SUSPECT"]);
});
