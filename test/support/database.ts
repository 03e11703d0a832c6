import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { Client } from "pg";
import { inject } from "vitest";
import { AuditTrail } from "../../common/audit.js";
import { CertificateAuthority, createAuthority } from "../../common/certificates.js";
import { EventLog } from "../../common/event-log.js";
import { TokenAuthority } from "../../common/identity.js";
import { RevocationList } from "../../common/revocations.js";
import { SigningKeys } from "../../common/signing-keys.js";
import type { SubgraphResources } from "../../common/subgraph-service.js";
import { testLog } from "./test-log.js";

export { testLog };
export const adminToken = "administrator-of-the-tests";

/** A database of the file's own on the run's PostgreSQL. */
export async function createTestDatabase(): Promise<{ url: string; drop(): Promise<void> }> {
  const server = inject("postgresUrl");
  const name = `test_${randomUUID().replaceAll("-", "")}`;
  await statement(server, `create database ${name}`);
  return {
    url: server.replace(/\/[^/]*$/, `/${name}`),
    drop: () => statement(server, `drop database ${name} with (force)`),
  };
}

async function statement(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

export interface TestResources extends SubgraphResources {
  close(): Promise<void>;
}

/** What subgraphs stand on, for a test that opens some of them. Close what was opened on it between `stop` and `close`. */
export async function openTestResources(databaseUrl: string): Promise<TestResources> {
  const eventLog = await EventLog.open(databaseUrl, testLog);
  const revocations = await RevocationList.open(eventLog.orm, eventLog, testLog);
  const dataDir = mkdtempSync("/tmp/sg-keys-");
  const signingKeys = await SigningKeys.open(dataDir, testLog);
  const tokens = new TokenAuthority(signingKeys, adminToken, revocations.isRevoked);
  return {
    databaseUrl,
    eventLog,
    audit: new AuditTrail(eventLog.orm, 365, testLog),
    signingKeys,
    tokens,
    revocations,
    certificates: await CertificateAuthority.open(await createAuthority()),
    log: testLog,
    close: async () => {
      await eventLog.stop();
      await revocations.close();
      await eventLog.close();
      signingKeys.close();
      rmSync(dataDir, { recursive: true });
    },
  };
}
