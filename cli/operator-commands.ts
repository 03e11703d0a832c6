import type { Command } from "commander";
import { loadConfig } from "../common/config.js";

/** What an operator does beside the running system, on the machine of its data dir. */
export function addOperatorCommands(program: Command): void {
  program
    .command("doctor")
    .description("Say what is wrong with the configuration of the environment and what it stands on, and what helps.")
    .action(async () => {
      const { examine } = await import("./doctor.js");
      const findings = await examine(process.env);
      for (const { name, isWell, text, remedy } of findings) {
        process.stdout.write(`${isWell ? "well " : "WRONG"} ${name}: ${text}\n`);
        if (remedy !== null) process.stdout.write(`      ${remedy}\n`);
      }
      const wrong = findings.filter(({ isWell }) => !isWell).length;
      process.stdout.write(wrong === 0 ? "All is well.\n" : `${wrong} wrong.\n`);
      if (wrong > 0) process.exitCode = 1;
    });
  program
    .command("backup")
    .argument("<folder>", "one that does not exist")
    .description("Copy the data dir (keys, embedded database, blobs) into a folder; the system may run meanwhile.")
    .action(async (folder: string) => {
      const { backup } = await import("./backup.js");
      const { sizeBytes, isOnline } = await backup(loadConfig(process.env), folder);
      const how = isOnline ? "while it runs" : "while it is stopped";
      process.stdout.write(`${folder} has all of it, copied ${how}: ${(sizeBytes / 1024 ** 2).toFixed(1)} MiB.\n`);
    });
  program
    .command("restore")
    .argument("<folder>", "what `slapgraph backup` wrote")
    .description("Put a backup in the place of the data dir, which has to be absent or empty.")
    .action(async (folder: string) => {
      const { restore } = await import("./backup.js");
      const config = loadConfig(process.env);
      await restore(config, folder);
      process.stdout.write(`${config.dataDir} is restored. Start it.\n`);
    });
}
