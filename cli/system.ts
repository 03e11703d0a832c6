import type { Config } from "../common/config.js";
import type { Logger } from "../common/log.js";
import { openResources } from "../common/resources.js";

export interface System {
  gatewayUrl: string;
  slapUrl: string;
  /** Where nodes come in with certificates, if they do. */
  slapTlsUrl: string | null;
  shacacheUrl: string;
  /** Where nodes upload with certificates, if they do. */
  shacacheTlsUrl: string | null;
  adminToken: string;
  close(): Promise<void>;
}

/** Everything in one process. */
export async function startSystem(config: Config, log: Logger): Promise<System> {
  const opening = openResources(config, log);
  // What the doors are made of is loaded while PostgreSQL starts.
  const [{ openDoors }, resources] = await Promise.all([import("./doors.js"), opening]);
  try {
    return await openDoors(config, log, resources);
  } catch (error) {
    await resources.closer.close(log);
    throw error;
  }
}
