import type { AuditTrail } from "./audit.js";
import type { CertificateAuthority } from "./certificates.js";
import type { EventLog } from "./event-log.js";
import type { TokenAuthority } from "./identity.js";
import type { Logger } from "./log.js";
import type { RevocationList } from "./revocations.js";
import type { SigningKeys } from "./signing-keys.js";
import type { Subgraph } from "./subgraph.js";

/** What a subgraph stands on, opened once per process. */
export interface SubgraphResources {
  databaseUrl: string;
  eventLog: EventLog;
  audit: AuditTrail;
  signingKeys: SigningKeys;
  tokens: TokenAuthority;
  revocations: RevocationList;
  certificates: CertificateAuthority;
  log: Logger;
}

/** An open subgraph: its schema for the gateway, its consumers, its readiness. */
export interface SubgraphService {
  subgraph: Subgraph;
  startConsumers(): void;
  checkReady(): Promise<unknown>;
  close(): Promise<unknown>;
}
