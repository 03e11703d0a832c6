import DataLoader from "dataloader";
import type { Caller } from "../../common/identity.js";
import type { SubgraphContext } from "../../common/subgraph.js";
import type { AuditRecordRow, AuditRecordService } from "./audit-record/audit-record.service.js";
import type { CertificateRow, CertificateService } from "./certificate/certificate.service.js";
import type { HeldRole, PersonRow, PersonService } from "./person/person.service.js";
import type { ProjectRow, ProjectService } from "./project/project.service.js";
import type { RegistrationService, RegistrationTokenView } from "./registration/registration.service.js";
import type { SigningKeyService } from "./signing-key/signing-key.service.js";
import type { TokenRow, TokenService } from "./token/token.service.js";

export interface IdentityServices {
  projects: ProjectService;
  persons: PersonService;
  tokens: TokenService;
  certificates: CertificateService;
  registrations: RegistrationService;
  signingKeys: SigningKeyService;
  auditRecords: AuditRecordService;
}

export interface IdentityLoaders {
  projects: DataLoader<string, ProjectRow | null>;
  persons: DataLoader<string, PersonRow | null>;
  tokens: DataLoader<string, TokenRow | null>;
  certificates: DataLoader<string, CertificateRow | null>;
  registrationTokens: DataLoader<string, RegistrationTokenView | null>;
  personRoles: DataLoader<string, HeldRole[]>;
  auditRecords: DataLoader<string, AuditRecordRow | null>;
}

export type IdentityContext = SubgraphContext<IdentityLoaders>;

/** Each loader sees what its caller may see, so a join shows no more than a query would. */
export function createIdentityLoaders(services: IdentityServices) {
  const { projects, persons, tokens, certificates, registrations, auditRecords } = services;
  return (caller: Caller): IdentityLoaders => ({
    projects: new DataLoader((names) => projects.projectsByName(caller, names)),
    persons: new DataLoader((subjects) => persons.personsBySubject(caller, subjects)),
    tokens: new DataLoader((ids) => tokens.tokensById(caller, ids)),
    certificates: new DataLoader((ids) => certificates.certificatesById(caller, ids)),
    registrationTokens: new DataLoader((ids) => registrations.registrationTokensById(caller, ids)),
    personRoles: new DataLoader((subjects) => persons.rolesOf(caller, subjects)),
    auditRecords: new DataLoader((ids) => auditRecords.auditRecordsById(caller, ids)),
  });
}
