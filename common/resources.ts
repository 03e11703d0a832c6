import { AuditTrail } from "./audit.js";
import type { Config } from "./config.js";
import {
  lockDataDir,
  openDataDir,
  readAdminToken,
  readCertificateAuthority,
  readDatabasePassword,
} from "./data-dir.js";
import { startEmbeddedPostgres } from "./embedded-postgres.js";
import { EventLog } from "./event-log.js";
import { TokenAuthority } from "./identity.js";
import { Closer } from "./lifecycle.js";
import type { Logger } from "./log.js";
import { RevocationList } from "./revocations.js";
import { ServiceKey } from "./service-key.js";
import { SigningKeys } from "./signing-keys.js";
import type { SubgraphResources } from "./subgraph-service.js";
import { startTracing } from "./tracing.js";

export interface Resources extends SubgraphResources {
  adminToken: string;
  serviceKey: ServiceKey;
  closer: Closer;
}

/**
 * What every process stands on: the data dir, the database, the event log, and who callers are. Without DATABASE_URL the
 * process owns the data dir and runs PostgreSQL in it; with it, several processes share the keys of one data dir.
 */
export async function openResources(config: Config, log: Logger): Promise<Resources> {
  const closer = new Closer();
  try {
    // Before any connection to the database, whose statements are to be traced.
    if (config.tracesUrl !== undefined)
      closer.add("tracing", await startTracing(config.tracesUrl, String(log.bindings().service)));
    openDataDir(config.dataDir);
    let databaseUrl = config.databaseUrl;
    if (databaseUrl === undefined) {
      const lock = await lockDataDir(config.dataDir);
      closer.add("data dir", lock.release);
      const postgres = await startEmbeddedPostgres({
        dir: `${config.dataDir}/postgres`,
        password: await readDatabasePassword(config.dataDir),
        database: "slapgraph",
        log,
      });
      closer.add("PostgreSQL", postgres.stop);
      databaseUrl = postgres.url;
    }
    const adminToken = await readAdminToken(config.dataDir, config.adminToken);
    const eventLog = await EventLog.open(databaseUrl, log, config.eventRetentionMs);
    closer.add("event log", () => eventLog.close());
    const audit = new AuditTrail(eventLog.orm, config.auditDays, log);
    const revocations = await RevocationList.open(eventLog.orm, eventLog, log);
    closer.add("revocations", () => revocations.close());
    const signingKeys = await SigningKeys.open(config.dataDir, log);
    closer.add("signing keys", () => signingKeys.close());
    const tokens = new TokenAuthority(signingKeys, adminToken, revocations.isRevoked);
    const serviceKey = await ServiceKey.open(config.dataDir);
    const certificates = await readCertificateAuthority(config.dataDir);
    return {
      databaseUrl,
      eventLog,
      audit,
      signingKeys,
      tokens,
      revocations,
      certificates,
      log,
      adminToken,
      serviceKey,
      closer,
    };
  } catch (error) {
    await closer.close(log);
    throw error;
  }
}
