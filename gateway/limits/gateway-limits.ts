import { type Config, type Limits, loadConfig } from "../../common/config.js";

/** What the gateway refuses, by `docs/limits.md`. */
export interface GatewayLimits extends Omit<Limits, "connections"> {
  /** Off, nobody is told the schema, nor what a wrong name may have meant. */
  introspection: boolean;
}

/** What holds where nothing is configured. */
export const defaultLimits: GatewayLimits = limitsOf(loadConfig({}));

export function limitsOf({ limits, introspection }: Config): GatewayLimits {
  return { ...limits, introspection };
}
