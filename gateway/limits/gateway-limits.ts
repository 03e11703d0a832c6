import { type Config, loadConfig } from "../../common/config.js";

/** What the gateway refuses, by `docs/limits.md`. */
export interface GatewayLimits {
  depth: number;
  aliases: number;
  tokens: number;
  cost: number;
  bodyBytes: number;
  operationMs: number;
  subscriptionsPerCaller: number;
  /** Off, nobody is told the schema, nor what a wrong name may have meant. */
  introspection: boolean;
}

/** What holds where nothing is configured. */
export const defaultLimits: GatewayLimits = limitsOf(loadConfig({}));

export function limitsOf({ limits, introspection }: Config): GatewayLimits {
  return { ...limits, introspection };
}
