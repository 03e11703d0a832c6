#!/usr/bin/env node
import { Command } from "commander";
import { ConfigError, loadConfig } from "../common/config.js";
import { adminTokenFile } from "../common/data-dir.js";
import { closeOnSignal } from "../common/lifecycle.js";
import { createLogger } from "../common/log.js";
import { startSystem } from "./system.js";

const program = new Command("slapgraph").description("A SlapOS Master: GraphQL, the SLAP protocol, and a Shacache.");

program
  .command("start")
  .description("Run the whole system in this process, in the foreground. Configured by environment variables (README).")
  .action(async () => {
    const config = loadConfig(process.env);
    const log = createLogger(config.logLevel, "slapgraph");
    const startedAt = performance.now();
    const system = await startSystem(config, log);
    closeOnSignal(() => system.close());
    const tokenPlace = config.adminToken ? "in SLAPGRAPH_ADMIN_TOKEN" : adminTokenFile(config.dataDir);
    const token = config.adminToken ? "$SLAPGRAPH_ADMIN_TOKEN" : `$(cat ${adminTokenFile(config.dataDir)})`;
    process.stdout.write(`Slapgraph is ready after ${((performance.now() - startedAt) / 1000).toFixed(1)} s.

  GraphQL    ${system.gatewayUrl}/graphql   (open it in a browser for GraphiQL)
  SLAP       ${system.slapUrl}/             (a node's master_url goes here, with its token in the path)
  Shacache   ${system.shacacheUrl}/shacache and ${system.shacacheUrl}/shadir
  Admin      the administrator's token is ${tokenPlace}
  Data       ${config.dataDir}

Next: create a computer and get the master_url for its node's slapos.cfg:

  curl -s ${system.gatewayUrl}/graphql -H "authorization: Bearer ${token}" -H "content-type: application/json" \\
    -d '{"query":"mutation { createComputer(input: { reference: \\"COMP-1\\" }) { masterUrl userErrors { message } } }"}'

The README goes on from there. Stop with Ctrl-C.
`);
  });

try {
  await program.parseAsync();
} catch (error) {
  // What a person can put right is said in sentences; the rest is a fault and shows where it is.
  process.stderr.write(error instanceof ConfigError ? `slapgraph: ${error.message}\n` : `${(error as Error).stack}\n`);
  process.exitCode = 1;
  setTimeout(() => process.exit(1), 500).unref();
}
