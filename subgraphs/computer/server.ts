import { openDatabase, pingDatabase } from "../../common/database.js";
import type { EventLog } from "../../common/event-log.js";
import { naturalKeyOf } from "../../common/global-id.js";
import type { TokenAuthority } from "../../common/identity.js";
import { buildSubgraph, type EntityReference } from "../../common/subgraph.js";
import type { SubgraphResources, SubgraphService } from "../../common/subgraph-service.js";
import { ComputerEntity } from "./computer/computer.entity.js";
import { ComputerResolver, ComputerStateChangeResolver, toComputer } from "./computer/computer.resolver.js";
import { ComputerService } from "./computer/computer.service.js";
import { Computer } from "./computer/computer.type.js";
import { type ComputerContext, type ComputerServices, createComputerLoaders } from "./context.js";
import { InstallationEntity } from "./installation/installation.entity.js";
import {
  InstallationResolver,
  InstallationStateChangeResolver,
  toInstallation,
} from "./installation/installation.resolver.js";
import { InstallationService } from "./installation/installation.service.js";
import { SoftwareInstallation } from "./installation/installation.type.js";
import { InstanceEntity } from "./instance/instance.entity.js";
import { AllocationCandidateResolver, InstanceResolver, toInstance } from "./instance/instance.resolver.js";
import { InstanceService } from "./instance/instance.service.js";
import { SoftwareInstance } from "./instance/instance.type.js";
import { InstanceTokenResolver } from "./instance/instance-token.resolver.js";
import { InstanceTokenService } from "./instance/instance-token.service.js";
import { mayMakeRoom } from "./instance/retry-pending.js";
import { computerMigrations } from "./migrations.js";
import { NodeViewService } from "./node-view.js";
import { PartitionEntity } from "./partition/partition.entity.js";
import { PartitionResolver, PartitionStateChangeResolver, toPartition } from "./partition/partition.resolver.js";
import { bangKind, PartitionService } from "./partition/partition.service.js";
import { ComputerPartition } from "./partition/partition.type.js";
import { UsageEntity } from "./usage/usage.entity.js";
import { UsageService } from "./usage/usage.service.js";

export interface ComputerSubgraphService extends SubgraphService {
  services: ComputerServices & { nodeViews: NodeViewService };
}

/** Opens the computer subgraph on the shared database. `masterUrl` writes a node's master_url around its credential. */
export async function openComputer(
  { databaseUrl, eventLog, tokens, log }: SubgraphResources,
  masterUrl: (credential: string) => string,
): Promise<ComputerSubgraphService> {
  const orm = await openDatabase({
    url: databaseUrl,
    schema: "computer",
    entities: [ComputerEntity, PartitionEntity, InstallationEntity, InstanceEntity, UsageEntity],
    migrations: computerMigrations,
    poolSize: 12,
    log,
  });
  const services = {
    computers: new ComputerService(orm, eventLog, tokens),
    partitions: new PartitionService(orm, eventLog),
    installations: new InstallationService(orm, eventLog),
    instances: new InstanceService(orm, eventLog),
    instanceTokens: new InstanceTokenService(orm, eventLog, tokens),
    usage: new UsageService(orm, eventLog),
    nodeViews: new NodeViewService(orm),
  };
  return {
    subgraph: await buildComputerSchema(services, eventLog, tokens, masterUrl),
    services,
    startConsumers: () => {
      eventLog.consume(orm, {
        name: "computer",
        concerns: (event) => event.kind === bangKind || mayMakeRoom(event),
        handler: async (em, events, append) => {
          for (const event of events) {
            if (event.kind !== bangKind) continue;
            await services.partitions.applyBang(em, event.payload as { computer: string; partition: string | null });
          }
          await services.instances.retryPending(em, events, append);
        },
      });
    },
    checkReady: () => pingDatabase(orm),
    close: () => orm.close(true),
  };
}

export function buildComputerSchema(
  services: ComputerServices,
  eventLog: EventLog,
  tokens: TokenAuthority,
  masterUrl: (credential: string) => string,
) {
  return buildSubgraph({
    name: "computer",
    resolvers: [
      new ComputerResolver(services.computers, masterUrl),
      new ComputerStateChangeResolver(),
      new PartitionResolver(),
      new PartitionStateChangeResolver(),
      new InstallationResolver(services.installations),
      new InstallationStateChangeResolver(),
      new InstanceResolver(services.instances),
      new InstanceTokenResolver(services.instanceTokens, masterUrl),
      new AllocationCandidateResolver(),
    ],
    entityTypes: [Computer, ComputerPartition, SoftwareInstallation, SoftwareInstance],
    references: {
      Computer: async ({ id }: EntityReference, { loaders }: ComputerContext) => {
        const row = await loaders.computers.load(naturalKeyOf("Computer", id));
        return row && toComputer(row);
      },
      ComputerPartition: async ({ id }: EntityReference, { loaders }: ComputerContext) => {
        const row = await loaders.partitions.load(naturalKeyOf("ComputerPartition", id));
        return row && toPartition(row);
      },
      SoftwareInstallation: async ({ id }: EntityReference, { loaders }: ComputerContext) => {
        const row = await loaders.installations.load(naturalKeyOf("SoftwareInstallation", id));
        return row && toInstallation(row);
      },
      SoftwareInstance: async ({ id }: EntityReference, { loaders }: ComputerContext) => {
        const row = await loaders.instances.load(naturalKeyOf("SoftwareInstance", id));
        return row && toInstance(row);
      },
    },
    createLoaders: createComputerLoaders(services, eventLog, tokens),
  });
}
