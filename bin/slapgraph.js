#!/usr/bin/env node
// Runs the command under the Node that npm installed, where the one that runs this is too old for it.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const command = fileURLToPath(new URL("../dist/cli/slapgraph.js", import.meta.url));
const bundledNode = fileURLToPath(new URL("../node_modules/.bin/node", import.meta.url));

if (!existsSync(command)) {
  console.error("slapgraph: not built yet. Run `npm run build` first.");
  process.exitCode = 1;
} else if (Number(process.versions.node.split(".")[0]) >= 24 || !existsSync(bundledNode)) {
  await import(command);
} else {
  process.exitCode = spawnSync(bundledNode, [command, ...process.argv.slice(2)], { stdio: "inherit" }).status ?? 1;
}
