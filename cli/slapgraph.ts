#!/usr/bin/env node
import { enableCompileCache, flushCompileCache } from "node:module";
import path from "node:path";
import { Command } from "commander";
import { ConfigError, loadConfig } from "../common/config.js";
import { adminTokenFile, compiledFolder, openDataDir } from "../common/data-dir.js";
import { closeOnSignal } from "../common/lifecycle.js";
import { createLogger } from "../common/log.js";
import { Api, type ApiOptions } from "./api.js";
import { addAuditCommands } from "./audit-commands.js";
import { addCacheCommands } from "./cache-commands.js";
import { addIdentityCommands } from "./identity-commands.js";
import { addNodeCommand } from "./node-command.js";
import { addOperatorCommands } from "./operator-commands.js";

const program = new Command("slapgraph")
  .description("A SlapOS Master: GraphQL, the SLAP protocol, and a Shacache.")
  .option("--url <url>", "the gateway's GraphQL address (SLAPGRAPH_URL); default: this machine's")
  .option("--token <token>", "who you are (SLAPGRAPH_TOKEN); default: the administrator of the data dir");
const api = () => new Api(program.opts<ApiOptions>(), process.env);

program
  .command("start")
  .description("Run the whole system in this process, in the foreground. Configured by environment variables (README).")
  .action(async () => {
    const config = loadConfig(process.env);
    // Compiling what is imported takes a third of a start: later ones find it compiled.
    openDataDir(config.dataDir);
    enableCompileCache(path.join(config.dataDir, compiledFolder));
    // The other commands need none of the system, and start in a fraction of the time without it.
    const { startSystem } = await import("./system.js");
    const log = createLogger(config.logLevel, "slapgraph");
    const startedAt = performance.now();
    const system = await startSystem(config, log);
    closeOnSignal(() => system.close());
    flushCompileCache();
    const tokenPlace = config.adminToken ? "in SLAPGRAPH_ADMIN_TOKEN" : adminTokenFile(config.dataDir);
    const command = `node ${path.relative(process.cwd(), path.join(import.meta.dirname, "../../bin/slapgraph.js"))}`;
    process.stdout.write(`Slapgraph is ready after ${((performance.now() - startedAt) / 1000).toFixed(1)} s.

  GraphQL    ${system.gatewayUrl}/graphql   (open it in a browser for GraphiQL)
  SLAP       ${system.slapUrl}/             (a node's master_url goes here, with its token in the path)
${system.slapTlsUrl === null ? "" : `  SLAP TLS   ${system.slapTlsUrl}/            (for nodes with certificates)\n`}  Shacache   ${system.shacacheUrl}/shacache and ${system.shacacheUrl}/shadir
${system.shacacheTlsUrl === null ? "" : `             ${system.shacacheTlsUrl} too (for uploads with certificates)\n`}  Admin      the administrator's token is ${tokenPlace}
  Data       ${config.dataDir}

Next: make this machine a node of it, run by the present user (slapos.core comes from PyPI):

  ${command} node config COMP-1 --create --folder /tmp/node

The README goes on from there. Stop with Ctrl-C.
`);
  });

addIdentityCommands(program, api);
addAuditCommands(program, api);
addNodeCommand(program, api);
addCacheCommands(program, () => program.opts<ApiOptions>(), api, process.env);

addOperatorCommands(program);

try {
  await program.parseAsync();
} catch (error) {
  // What a person can put right is said in sentences; the rest is a fault and shows where it is.
  process.stderr.write(error instanceof ConfigError ? `slapgraph: ${error.message}\n` : `${(error as Error).stack}\n`);
  process.exitCode = 1;
  setTimeout(() => process.exit(1), 500).unref();
}
