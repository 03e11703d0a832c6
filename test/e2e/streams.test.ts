import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RunningSystem, type Wiring } from "../support/running-system.js";
import { runStreams } from "../support/stream-run.js";

const wirings: Wiring[] = ["one process", "apart"];

/** The small form; `npm run bench -- streams` is the full size. */
describe.each(wirings)("%s", (wiring) => {
  let system: RunningSystem;

  beforeAll(async () => {
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" }, wiring);
  });

  afterAll(() => system.close());

  test("every one of many subscribers gets exactly what the log holds for it, and in its order", async () => {
    const report = await runStreams({ system, subscriberCount: 30, eventsPerSecond: 100, seconds: 5 });
    expect(report.unequal).toEqual([]);
    expect(report.delivered).toBe(2 * report.events);
  }, 180_000);
});
