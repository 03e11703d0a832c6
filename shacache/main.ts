import { auditMutations } from "../common/audited-mutations.js";
import { runService } from "../common/run-service.js";
import { serveSubgraph } from "../common/subgraph-server.js";
import { startShacache } from "./door.js";
import { openShacache } from "./server.js";

/** The Shacache on its own: its door, and beside it its subgraph for the gateway. */
await runService("shacache", async (config, resources, log) => {
  const { closer, audit, tokens, serviceKey, certificates } = resources;
  const shacache = await openShacache(resources, config);
  closer.add("shacache", () => shacache.close());
  const { checkReady, services, subgraph } = shacache;
  const server = await serveSubgraph({
    subgraph: auditMutations(subgraph, audit),
    tokens,
    serviceKey,
    host: config.subgraphHost,
    port: config.subgraphPort,
    portVariable: "SLAPGRAPH_SUBGRAPH_PORT",
    log,
    checkReady,
  });
  closer.add("subgraph server", () => server.close());
  const access = {
    tokens,
    certificates,
    openReads: config.openReads,
    openWrites: config.openWrites,
    uploadStallMs: config.uploadStallMs,
  };
  const door = await startShacache({
    host: config.host,
    port: config.shacachePort,
    tlsPort: config.shacacheTlsPort ?? null,
    services,
    audit,
    ...access,
    maxConnections: config.limits.connections,
    checkReady,
    log,
  });
  closer.add("Shacache door", () => door.close());
  return door;
});
