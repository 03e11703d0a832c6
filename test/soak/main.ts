import { type KillReport, runKills } from "../support/kill-run.js";
import { minioBinary } from "../support/toolchain.js";

/** `npm run soak -- COUNT`: kills so many times in each wiring, and says what was lost. Fails unless all is 0. */
const count = Number(process.argv[2] ?? 50);
if (!Number.isInteger(count) || count < 1) throw new Error("npm run soak -- COUNT takes a number of kills, 1 or more.");
const minio = await minioBinary();
if ("missing" in minio) console.log(`Blobs are kept in files, and MinIO is not killed: there is ${minio.missing}.`);

for (const wiring of ["one process", "apart"] as const) {
  console.log(`\n${wiring}:`);
  const report = await runKills({
    wiring,
    count,
    minioBinary: "missing" in minio ? null : minio.binary,
    say: (line) => console.log(`  ${line}`),
  });
  for (const line of summary(report)) console.log(`  ${line}`);
  if (bad(report) > 0) process.exitCode = 1;
}

function summary(report: KillReport): string[] {
  return [
    `${report.kills} kills, ${report.acknowledged} writes acknowledged, ${report.events} events, ${report.resumed} resumes, slowest recovery ${report.slowestRecoveryMs} ms`,
    ...[...report.lost, ...report.faults, ...report.left].slice(0, 50),
    `lost ${report.lost.length}, repeated ${report.repeated + report.disordered}, gaps ${report.gaps}, faults ${report.faults.length}, left behind ${report.left.length}`,
  ];
}

function bad({ lost, repeated, disordered, gaps, faults, left }: KillReport): number {
  return lost.length + repeated + disordered + gaps + faults.length + left.length;
}
