#!/usr/bin/env node
// Runs the command under the Node that npm installed, where the one that runs this is too old for it.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const command = fileURLToPath(new URL("../dist/cli/slapgraph.js", import.meta.url));
const bundledNode = fileURLToPath(new URL("../node_modules/.bin/node", import.meta.url));

if (!existsSync(command)) {
  console.error("slapgraph: not built yet. Run `npm run build` first.");
  process.exitCode = 1;
} else if (Number(process.versions.node.split(".")[0]) >= 24 || !existsSync(bundledNode)) {
  await import(command);
} else {
  const child = spawn(bundledNode, [command, ...process.argv.slice(2)], { stdio: "inherit" });
  // A supervisor stops the process that it started, which must not leave the system behind.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  child.once("exit", (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
}
