import DataLoader from "dataloader";
import type { EventLog, LoggedEvent } from "../../common/event-log.js";
import { type EventStream, streamEvents } from "../../common/event-stream.js";
import type { Caller, TokenAuthority } from "../../common/identity.js";
import { loadersPerPage } from "../../common/page-per-parent.js";
import type { Page } from "../../common/pagination.js";
import type { SubgraphContext } from "../../common/subgraph.js";
import type { ComputerRow, ComputerService } from "./computer/computer.service.js";
import type { InstallationRow, InstallationService } from "./installation/installation.service.js";
import type { InstanceRow, InstanceService } from "./instance/instance.service.js";
import type { InstanceTokenService } from "./instance/instance-token.service.js";
import type { PartitionRow, PartitionService } from "./partition/partition.service.js";
import type { UsageRow, UsageService } from "./usage/usage.service.js";

export interface ComputerServices {
  computers: ComputerService;
  partitions: PartitionService;
  installations: InstallationService;
  instances: InstanceService;
  instanceTokens: InstanceTokenService;
  usage: UsageService;
}

export interface ComputerLoaders {
  computers: DataLoader<string, ComputerRow | null>;
  partitions: DataLoader<string, PartitionRow | null>;
  installations: DataLoader<string, InstallationRow | null>;
  instances: DataLoader<string, InstanceRow | null>;
  children: DataLoader<string, InstanceRow[]>;
  /** One loader per page shape, because parents that ask for the same page are answered together. */
  partitionPages: (page: Page) => DataLoader<string, PartitionRow[]>;
  installationPages: (page: Page) => DataLoader<string, InstallationRow[]>;
  instancePages: (page: Page) => DataLoader<string, InstanceRow[]>;
  usagePages: (page: Page) => DataLoader<string, UsageRow[]>;
  /** The event stream as the caller sees it; it ends when the caller's token stops being good. */
  follow: <Change>(
    after: string | null | undefined,
    toChange: (event: LoggedEvent) => Change | null,
  ) => EventStream<Change>;
}

export type ComputerContext = SubgraphContext<ComputerLoaders>;

export function createComputerLoaders(services: ComputerServices, eventLog: EventLog, tokens: TokenAuthority) {
  return (caller: Caller): ComputerLoaders => ({
    computers: new DataLoader((references) => services.computers.computersByReference(caller, references)),
    partitions: new DataLoader((keys) => services.partitions.partitionsByKey(caller, keys)),
    installations: new DataLoader((keys) => services.installations.installationsByKey(caller, keys)),
    instances: new DataLoader((references) => services.instances.instancesByReference(caller, references)),
    children: new DataLoader((references) => services.instances.childrenOf(caller, references)),
    partitionPages: loadersPerPage((page, references) =>
      services.partitions.partitionsOfComputers(caller, references, page),
    ),
    installationPages: loadersPerPage((page, references) =>
      services.installations.installationsOfComputers(caller, references, page),
    ),
    instancePages: loadersPerPage((page, references) =>
      services.instances.instancesOfComputers(caller, references, page),
    ),
    usagePages: loadersPerPage((page, references) => services.usage.usageOfComputers(caller, references, page)),
    follow: (after, toChange) =>
      streamEvents(eventLog, { after, toChange, assertAllowed: () => tokens.assertStillValid(caller) }),
  });
}
