import { auditMutations } from "../common/audited-mutations.js";
import { type Config, slapUrlOf } from "../common/config.js";
import type { Closer } from "../common/lifecycle.js";
import type { Logger } from "../common/log.js";
import type { Resources } from "../common/resources.js";
import { limitsOf } from "../gateway/limits/gateway-limits.js";
import { readTrustedDocuments } from "../gateway/limits/trusted-documents.js";
import { startGateway } from "../gateway/server.js";
import { startShacache } from "../shacache/door.js";
import { openShacache } from "../shacache/server.js";
import { ComputerInformation } from "../slap/computer-information.js";
import { startSlap } from "../slap/server.js";
import { openCatalog } from "../subgraphs/catalog/server.js";
import { openComputer } from "../subgraphs/computer/server.js";
import { openIdentity } from "../subgraphs/identity/server.js";
import { openMonitoring } from "../subgraphs/monitoring/server.js";
import type { System } from "./system.js";

/** All subgraphs and doors of one process: the gateway reaches the subgraphs without a network hop. */
export async function openDoors(config: Config, log: Logger, resources: Resources): Promise<System> {
  const { audit, tokens, certificates, eventLog, adminToken, closer } = resources;
  // With port 0 the address is known once the door is open, which is before anybody can ask for it.
  let slapUrl = slapUrlOf(config);
  const masterUrl = (credential: string) => `${slapUrl}/k/${credential}/`;
  const { identity, catalog, computer, monitoring, shacache } = await openedTogether(closer, {
    identity: openIdentity(resources, masterUrl),
    catalog: openCatalog(resources),
    computer: openComputer(resources, masterUrl),
    monitoring: openMonitoring(resources),
    shacache: openShacache(resources, config),
  });
  const subgraphs = [identity, catalog, computer, monitoring, shacache];
  const checkReady = () => Promise.all([eventLog.ping(), ...subgraphs.map((one) => one.checkReady())]);
  for (const subgraph of subgraphs) subgraph.startConsumers();
  closer.add("consumers", () => eventLog.stop());

  const shared = { host: config.host, maxConnections: config.limits.connections, audit, tokens, log };
  const slapDoor = await opened(
    closer,
    "SLAP door",
    startSlap({
      ...shared,
      port: config.slapPort,
      services: {
        ...computer.services,
        bangs: monitoring.services.bangs,
        releases: catalog.services.releases,
        certificates: identity.services.certificates,
        registrations: identity.services.registrations,
        computerInformation: new ComputerInformation(computer.services.nodeViews),
      },
      tlsPort: config.slapTlsPort ?? null,
      certificates,
      publicUrl: config.slapUrl?.replace(/\/+$/, ""),
      liveness: config.liveness,
      checkReady: () => Promise.all([eventLog.ping(), computer.checkReady()]),
    }),
  );
  if (config.slapUrl === undefined) slapUrl = slapDoor.url;
  const shacacheDoor = await opened(
    closer,
    "Shacache door",
    startShacache({
      ...shared,
      port: config.shacachePort,
      services: shacache.services,
      tlsPort: config.shacacheTlsPort ?? null,
      certificates,
      openReads: config.openReads,
      openWrites: config.openWrites,
      uploadStallMs: config.uploadStallMs,
      checkReady: shacache.checkReady,
    }),
  );
  const gateway = await opened(
    closer,
    "gateway",
    startGateway({
      ...shared,
      port: config.gatewayPort,
      subgraphs: subgraphs.map((one) => auditMutations(one.subgraph, audit)),
      limits: limitsOf(config),
      trustedDocuments:
        config.trustedDocuments === undefined ? undefined : readTrustedDocuments(config.trustedDocuments),
      checkReady,
    }),
  );
  return {
    gatewayUrl: gateway.url,
    slapUrl: slapDoor.url,
    slapTlsUrl: slapDoor.tlsUrl,
    shacacheUrl: shacacheDoor.url,
    shacacheTlsUrl: shacacheDoor.tlsUrl,
    adminToken,
    close: () => closer.close(log),
  };
}

interface Closable {
  close(): Promise<unknown>;
}

/** Each waits for the database more than it works. Where one does not open, the others are still closed. */
async function openedTogether<Services extends Record<string, Closable>>(
  closer: Closer,
  opening: { [Name in keyof Services]: Promise<Services[Name]> },
): Promise<Services> {
  const settled = await Promise.allSettled(
    Object.entries(opening).map(async ([name, one]) => [name, await opened(closer, name, one)] as const),
  );
  const all = settled.map((one) => {
    if (one.status === "rejected") throw one.reason;
    return one.value;
  });
  return Object.fromEntries(all) as Services;
}

async function opened<Service extends Closable>(
  closer: Closer,
  name: string,
  opening: Promise<Service>,
): Promise<Service> {
  const service = await opening;
  closer.add(name, () => service.close());
  return service;
}
