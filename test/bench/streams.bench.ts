import { RunningSystem } from "../support/running-system.js";
import { runStreams } from "../support/stream-run.js";
import { endAfterwards, say } from "./report.js";

/** 1,000 subscribers and 1,000 events a second for a minute: whether all is equal to the log, and what it takes. */
export async function run(): Promise<void> {
  const system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" });
  endAfterwards(() => system.close());
  const report = await runStreams({
    system,
    subscriberCount: Number(process.env.N ?? 1000),
    eventsPerSecond: Number(process.env.R ?? 1000),
    seconds: Number(process.env.S ?? 60),
  });
  say(
    `${report.events} events, ${report.delivered} deliveries, ${report.unequal.length} of 1001 streams differ from the log`,
  );
  for (const line of report.unequal.slice(0, 10)) say(`  ${line}`);
  say(`all had everything ${report.behindMs} ms after the last event`);
  say(`memory of the process over the time, MB: ${report.memoryMb.join(" ")}`);
  if (report.unequal.length > 0) process.exitCode = 1;
}
