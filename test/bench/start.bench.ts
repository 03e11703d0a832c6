import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { RunningSystem } from "../support/running-system.js";
import { endAfterwards, median, say } from "./report.js";

/** From the start on existing data to the first answered query, and what all processes hold when idle. */
export async function run(): Promise<void> {
  const system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" });
  endAfterwards(() => system.close());
  await system.graphql('mutation { createComputer(input: { reference: "BENCH" }) { credential } }');
  const taken: number[] = [];
  for (let round = 0; round < 5; round++) {
    await system.stop();
    const startedAt = performance.now();
    system.spawn();
    for (;;) {
      const answer = await system.graphql('{ computer(reference: "BENCH") { reference } }').catch(() => null);
      if (answer) break;
      await delay(10);
    }
    taken.push(performance.now() - startedAt);
  }
  await delay(5_000);
  const sizes = descendants(system.pids).map(proportionalKb);
  say(
    `start to first answered query: ${taken.map((ms) => Math.round(ms)).join(" ")} ms, median ${Math.round(median(taken))}, goal 3000`,
  );
  say(
    `idle memory of ${sizes.length} processes: ${Math.round(sizes.reduce((sum, kb) => sum + kb, 0) / 1024)} MB, goal 500`,
  );
}

function descendants(roots: number[]): number[] {
  const parents = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const stat = read(`/proc/${name}/stat`);
      return stat === ""
        ? []
        : [{ pid: Number(name), parent: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) }];
    });
  const all = [...roots];
  for (const pid of all) all.push(...parents.filter(({ parent }) => parent === pid).map((one) => one.pid));
  return all;
}

/** Shared pages count by their share, so that PostgreSQL's are not counted once for each of its processes. */
function proportionalKb(pid: number): number {
  return Number(/^Pss:\s+(\d+)/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0);
}

/** Empty for a process that has gone meanwhile. */
function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
