import { expect, test } from "vitest";
import { type KillRunOptions, runKills } from "../support/kill-run.js";
import { minioBinary, reasonToSkip } from "../support/toolchain.js";

const minio = await minioBinary();
const withoutMinio = reasonToSkip(minio) !== null;
const binary = "missing" in minio ? null : minio.binary;

/** The short form; `npm run soak -- COUNT` is the long one. */
async function expectNothingLost(options: KillRunOptions): Promise<void> {
  const report = await runKills(options);
  const { lost, gaps, repeated, disordered, faults, left } = report;
  expect({ lost, gaps, repeated, disordered, faults, left }).toEqual({
    lost: [],
    gaps: 0,
    repeated: 0,
    disordered: 0,
    faults: [],
    left: [],
  });
  // Without these the run would have shown nothing.
  expect(report.kills).toBe(options.count);
  expect(report.acknowledged).toBeGreaterThan(options.count);
  expect(report.resumed).toBeGreaterThan(0);
}

test("in one process, whatever is killed under load, no answered write is lost and every stream equals the log", async () => {
  await expectNothingLost({ wiring: "one process", count: 4, minioBinary: null });
}, 240_000);

test.skipIf(withoutMinio)(
  "apart, whichever service, database or store is killed under load, no answered write is lost and every stream equals the log",
  async () => {
    await expectNothingLost({ wiring: "apart", count: 10, minioBinary: binary });
  },
  400_000,
);
