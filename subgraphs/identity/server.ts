import { openDatabase, pingDatabase } from "../../common/database.js";
import { naturalKeyOf } from "../../common/global-id.js";
import { buildSubgraph, type EntityReference } from "../../common/subgraph.js";
import type { SubgraphResources, SubgraphService } from "../../common/subgraph-service.js";
import { AuditRecordEntity } from "./audit-record/audit-record.entity.js";
import { AuditRecordResolver, toAuditRecord } from "./audit-record/audit-record.resolver.js";
import { AuditRecordService } from "./audit-record/audit-record.service.js";
import { AuditRecord } from "./audit-record/audit-record.type.js";
import { CertificateEntity } from "./certificate/certificate.entity.js";
import { CertificateResolver, toCertificate } from "./certificate/certificate.resolver.js";
import { CertificateService, releasedInstance } from "./certificate/certificate.service.js";
import { Certificate } from "./certificate/certificate.type.js";
import { createIdentityLoaders, type IdentityContext, type IdentityServices } from "./context.js";
import { identityMigrations } from "./migrations.js";
import { PersonEntity } from "./person/person.entity.js";
import { PersonResolver, toPerson } from "./person/person.resolver.js";
import { PersonService } from "./person/person.service.js";
import { Person } from "./person/person.type.js";
import { ProjectEntity } from "./project/project.entity.js";
import { ProjectResolver, toProject } from "./project/project.resolver.js";
import { ProjectService } from "./project/project.service.js";
import { Project } from "./project/project.type.js";
import { RegistrationEntity, RegistrationTokenEntity } from "./registration/registration.entity.js";
import { RegistrationResolver, toRegistrationToken } from "./registration/registration.resolver.js";
import { RegistrationService } from "./registration/registration.service.js";
import { RegistrationToken } from "./registration/registration.type.js";
import { SigningKeyResolver } from "./signing-key/signing-key.resolver.js";
import { SigningKeyService } from "./signing-key/signing-key.service.js";
import { TokenEntity } from "./token/token.entity.js";
import { TokenResolver, toToken } from "./token/token.resolver.js";
import { TokenService, tokenIssuedKind } from "./token/token.service.js";
import { Token } from "./token/token.type.js";

export interface IdentitySubgraphService extends SubgraphService {
  services: IdentityServices;
}

/** Opens the identity subgraph on the shared database. `masterUrl` writes a node's master_url around its credential. */
export async function openIdentity(
  resources: SubgraphResources,
  masterUrl: (credential: string) => string,
): Promise<IdentitySubgraphService> {
  const { databaseUrl, eventLog, tokens, certificates, revocations, signingKeys, audit, log } = resources;
  const orm = await openDatabase({
    url: databaseUrl,
    schema: "identity",
    entities: [
      ProjectEntity,
      PersonEntity,
      TokenEntity,
      CertificateEntity,
      RegistrationTokenEntity,
      RegistrationEntity,
      AuditRecordEntity,
    ],
    migrations: identityMigrations,
    poolSize: 4,
    log,
  });
  const services = {
    projects: new ProjectService(orm, eventLog),
    persons: new PersonService(orm, eventLog),
    tokens: new TokenService(orm, eventLog, tokens),
    certificates: new CertificateService(orm, eventLog, certificates, revocations),
    registrations: new RegistrationService(orm, eventLog),
    signingKeys: new SigningKeyService(orm, eventLog, signingKeys),
    auditRecords: new AuditRecordService(orm),
  };
  const stopping = new AbortController();
  let retaining: Promise<void> = Promise.resolve();
  return {
    subgraph: await buildIdentitySchema(services, masterUrl),
    services,
    startConsumers: () => {
      eventLog.consume(orm, {
        name: "identity",
        concerns: (event) => event.kind === tokenIssuedKind || releasedInstance(event) !== null,
        handler: async (em, events, append) => {
          await services.tokens.recordIssuedTokens(em, events);
          await services.tokens.revokeOfReleasedInstances(em, events, append);
          await services.certificates.revokeOfReleasedInstances(em, events, append);
        },
      });
      retaining = audit.retain(stopping.signal);
    },
    checkReady: () => pingDatabase(orm),
    close: async () => {
      stopping.abort();
      await retaining;
      await orm.close(true);
    },
  };
}

export function buildIdentitySchema(services: IdentityServices, masterUrl: (credential: string) => string) {
  return buildSubgraph({
    name: "identity",
    resolvers: [
      new ProjectResolver(services.projects),
      new PersonResolver(services.persons, services.tokens),
      new TokenResolver(services.tokens, masterUrl),
      new CertificateResolver(services.certificates),
      new RegistrationResolver(services.registrations),
      new SigningKeyResolver(services.signingKeys),
      new AuditRecordResolver(services.auditRecords),
    ],
    entityTypes: [Project, Person, Token, Certificate, RegistrationToken, AuditRecord],
    references: {
      Project: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.projects.load(naturalKeyOf("Project", id));
        return row && toProject(row);
      },
      Person: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.persons.load(naturalKeyOf("Person", id));
        return row && toPerson(row);
      },
      Token: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.tokens.load(naturalKeyOf("Token", id));
        return row && toToken(row);
      },
      Certificate: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.certificates.load(naturalKeyOf("Certificate", id));
        return row && toCertificate(row);
      },
      RegistrationToken: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.registrationTokens.load(naturalKeyOf("RegistrationToken", id));
        return row && toRegistrationToken(row);
      },
      AuditRecord: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.auditRecords.load(naturalKeyOf("AuditRecord", id));
        return row && toAuditRecord(row);
      },
    },
    createLoaders: createIdentityLoaders(services),
  });
}
