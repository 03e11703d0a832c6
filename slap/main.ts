import { runService } from "../common/run-service.js";
import { openCatalog } from "../subgraphs/catalog/server.js";
import { openComputer } from "../subgraphs/computer/server.js";
import { openIdentity } from "../subgraphs/identity/server.js";
import { openMonitoring } from "../subgraphs/monitoring/server.js";
import { ComputerInformation } from "./computer-information.js";
import { startSlap } from "./server.js";

/** The SLAP door on its own: it calls the owners' services on the shared database; their consumers run with the subgraphs. */
await runService("slap", async (config, resources, log) => {
  const { closer, eventLog, audit, tokens, certificates } = resources;
  const computer = await openComputer(resources, () => "");
  closer.add("computer", () => computer.close());
  const monitoring = await openMonitoring(resources);
  closer.add("monitoring", () => monitoring.close());
  const catalog = await openCatalog(resources);
  closer.add("catalog", () => catalog.close());
  const identity = await openIdentity(resources, () => "");
  closer.add("identity", () => identity.close());
  const { nodeViews } = computer.services;
  const services = {
    ...computer.services,
    bangs: monitoring.services.bangs,
    releases: catalog.services.releases,
    certificates: identity.services.certificates,
    registrations: identity.services.registrations,
    computerInformation: new ComputerInformation(nodeViews),
  };
  const checkReady = () => Promise.all([eventLog.ping(), computer.checkReady()]);
  const door = await startSlap({
    host: config.host,
    port: config.slapPort,
    tlsPort: config.slapTlsPort ?? null,
    services,
    audit,
    tokens,
    certificates,
    publicUrl: config.slapUrl?.replace(/\/+$/, ""),
    liveness: config.liveness,
    maxConnections: config.limits.connections,
    checkReady,
    log,
  });
  closer.add("SLAP door", () => door.close());
  return door;
});
