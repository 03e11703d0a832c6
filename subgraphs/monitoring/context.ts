import DataLoader from "dataloader";
import type { Caller } from "../../common/identity.js";
import type { SubgraphContext } from "../../common/subgraph.js";
import type { BangRow, BangService } from "./bang/bang.service.js";
import type { HealthService } from "./health/health.service.js";
import type { PartitionHealth } from "./health/health.state.js";

export interface MonitoringServices {
  health: HealthService;
  bangs: BangService;
}

export interface MonitoringLoaders {
  health: DataLoader<string, PartitionHealth | null>;
  lastBangs: DataLoader<string, BangRow | null>;
  lastComputerBangs: DataLoader<string, BangRow | null>;
  bangs: DataLoader<string, BangRow | null>;
}

export type MonitoringContext = SubgraphContext<MonitoringLoaders>;

export function createMonitoringLoaders(services: MonitoringServices) {
  return (caller: Caller): MonitoringLoaders => {
    const health = new DataLoader((keys: readonly string[]) => services.health.healthOf(caller, keys));
    return {
      health,
      lastBangs: new DataLoader((keys: readonly string[]) => lastBangs(services.bangs, health, keys)),
      lastComputerBangs: new DataLoader((references) => services.bangs.lastComputerBangs(caller, references)),
      bangs: new DataLoader((ids) => services.bangs.bangsById(caller, ids)),
    };
  };
}

/** Through the health, because who may see a partition's health may see its bangs, and those of its present instance only. */
async function lastBangs(
  bangs: BangService,
  health: MonitoringLoaders["health"],
  keys: readonly string[],
): Promise<(BangRow | null)[]> {
  const known = (await health.loadMany([...keys])).map((one) => {
    if (one instanceof Error) throw one;
    return one;
  });
  const pairs = known.flatMap((one) =>
    one?.instanceReference ? [{ key: one.key, instanceReference: one.instanceReference }] : [],
  );
  const rows = pairs.length === 0 ? [] : await bangs.lastBangs(pairs);
  return keys.map((key) => rows[pairs.findIndex((pair) => pair.key === key)] ?? null);
}
