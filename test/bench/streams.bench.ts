import { MemoryWatch, type ServiceMemory } from "../support/memory-run.js";
import { runReports } from "../support/report-run.js";
import { RunningSystem, type Wiring } from "../support/running-system.js";
import { runStreams } from "../support/stream-run.js";
import { endAfterwards, endPeers, say } from "./report.js";

const wirings: Wiring[] = process.env.BENCH_WIRING ? [process.env.BENCH_WIRING as Wiring] : ["one process", "apart"];
const parts = (process.env.BENCH_PARTS ?? "reports,streams").split(",");
const subscriberCount = Number(process.env.N ?? 1000);
const eventsPerSecond = Number(process.env.R ?? 1000);
const seconds = Number(process.env.S ?? 60);

/** From a node's report to its subscriber, and 1,000 subscribers with 1,000 events a second for a minute. */
export async function run(): Promise<void> {
  for (const wiring of wirings) {
    say(`${wiring}:`);
    if (parts.includes("reports")) await reports(wiring);
    if (parts.includes("streams")) await streams(wiring);
  }
}

async function reports(wiring: Wiring): Promise<void> {
  const system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" }, wiring);
  endAfterwards(() => system.close());
  const latencies = await runReports({ system, computers: 10, partitionsPerComputer: 50, perSecond: 200, seconds: 15 });
  const at = (part: number) => latencies[Math.floor(latencies.length * part)] ?? Number.NaN;
  const verdict = at(0.5) <= 10 && at(0.99) <= 50 ? "met" : "MISSED";
  say(
    `  report to subscriber, 200/s: p50 ${at(0.5).toFixed(1)} ms, p90 ${at(0.9).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms, of ${latencies.length}; goal 10 and 50: ${verdict}`,
  );
  await endPeers();
}

async function streams(wiring: Wiring): Promise<void> {
  const memory = new MemoryWatch();
  endAfterwards(() => memory.close());
  const system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error", ...memory.environment }, wiring);
  endAfterwards(() => system.close());
  const report = await runStreams({ system, subscriberCount, eventsPerSecond, seconds, memory });
  say(
    `  ${report.events} events, ${report.delivered} deliveries, ${report.unequal.length} of ${subscriberCount + 1} streams differ from the log`,
  );
  for (const line of report.unequal.slice(0, 10)) say(`    ${line}`);
  say(`  all had everything ${report.behindMs} ms after the last event`);
  for (const one of report.memory) say(`  ${describe(one)}`);
  if (report.unequal.length > 0) process.exitCode = 1;
  await endPeers();
}

/** Resident memory has the garbage that is not collected yet; what is left after a collection tells whether anything grows. */
function describe({ service, rssMb, liveMb }: ServiceMemory): string {
  const [warm = 0, end = 0] = liveMb;
  const later = rssMb.slice(Math.ceil(rssMb.length / 2));
  return `${service.padEnd(10)} resident MB: ${rssMb.join(" ")}; in the second half ${signed(slope(later))} a sample; live after collection: ${warm} warm, ${end} at the end (${signed(end - warm)})`;
}

function slope(values: number[]): number {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const rise = values.reduce((sum, value, index) => sum + (index - middle) * (value - mean), 0);
  return rise / values.reduce((sum, _value, index) => sum + (index - middle) ** 2, 0);
}

function signed(value: number): string {
  return `${value >= 0 ? "+" : ""}${Number(value.toFixed(1))}`;
}
