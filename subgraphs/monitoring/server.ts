import { openDatabase, pingDatabase } from "../../common/database.js";
import { naturalKeyOf } from "../../common/global-id.js";
import { buildSubgraph, type EntityReference } from "../../common/subgraph.js";
import type { SubgraphResources, SubgraphService } from "../../common/subgraph-service.js";
import { BangEntity } from "./bang/bang.entity.js";
import { BangResolver, toBang } from "./bang/bang.resolver.js";
import { BangService } from "./bang/bang.service.js";
import { Bang } from "./bang/bang.type.js";
import { createMonitoringLoaders, type MonitoringContext, type MonitoringServices } from "./context.js";
import { Computer } from "./health/computer.stub.js";
import { ComputerPartition } from "./health/computer-partition.stub.js";
import { ComputerBangResolver, PartitionHealthResolver } from "./health/health.resolver.js";
import { consumerName, HealthService, projectedKinds } from "./health/health.service.js";
import { ComputerLivenessEntity, PartitionHealthEntity } from "./health/partition-health.entity.js";
import { monitoringMigrations } from "./migrations.js";

export interface MonitoringSubgraphService extends SubgraphService {
  services: MonitoringServices;
}

/** Opens the monitoring subgraph on the shared database. */
export async function openMonitoring({
  databaseUrl,
  eventLog,
  log,
}: SubgraphResources): Promise<MonitoringSubgraphService> {
  const orm = await openDatabase({
    url: databaseUrl,
    schema: "monitoring",
    entities: [BangEntity, PartitionHealthEntity, ComputerLivenessEntity],
    migrations: monitoringMigrations,
    poolSize: 8,
    log,
  });
  const health = new HealthService(orm);
  const services = { health, bangs: new BangService(orm, eventLog, health) };
  return {
    subgraph: await buildMonitoringSchema(services),
    services,
    startConsumers: () =>
      eventLog.consume(orm, {
        name: consumerName,
        concerns: ({ kind }) => projectedKinds.includes(kind),
        handler: (em, events) => health.project(em, events),
      }),
    checkReady: () => pingDatabase(orm),
    close: () => orm.close(true),
  };
}

export function buildMonitoringSchema(services: MonitoringServices) {
  return buildSubgraph({
    name: "monitoring",
    resolvers: [new BangResolver(services.bangs), new PartitionHealthResolver(), new ComputerBangResolver()],
    entityTypes: [Bang, ComputerPartition, Computer],
    references: {
      Bang: async ({ id }: EntityReference, { loaders }: MonitoringContext) => {
        const row = await loaders.bangs.load(naturalKeyOf("Bang", id));
        return row && toBang(row);
      },
      ComputerPartition: ({ id }: EntityReference) => ({ id }),
      Computer: ({ id }: EntityReference) => ({ id }),
    },
    createLoaders: createMonitoringLoaders(services),
  });
}
