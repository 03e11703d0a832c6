import { Arg, Args, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { IdentityContext } from "../context.js";
import type { TokenKind } from "../token/token.type.js";
import type { CertificateRow, CertificateService } from "./certificate.service.js";
import {
  Certificate,
  CertificateConnection,
  type CertificatePage,
  RevokeCertificateInput,
  RevokeCertificatePayload,
} from "./certificate.type.js";

export function toCertificate(row: CertificateRow): Certificate {
  return {
    id: toGlobalId("Certificate", row.id),
    serialNumber: row.id.slice(row.id.indexOf(":") + 1),
    kind: row.kind as TokenKind,
    subject: row.subject,
    project: row.project,
    issuedAt: row.issuedAt,
    expiresAt: row.expiresAt,
    revokedAt: row.revokedAt ?? null,
  };
}

@Resolver(() => Certificate)
export class CertificateResolver {
  readonly #service: CertificateService;

  constructor(service: CertificateService) {
    this.#service = service;
  }

  @Query(() => CertificateConnection, {
    nullable: true,
    description: "The project's client certificates for its owners, the caller's own for a node or an instance.",
  })
  async certificates(
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { caller }: IdentityContext,
  ): Promise<CertificatePage> {
    const page = toPage(args);
    return toConnection(await this.#service.certificates(caller, page), page, (row) => row.id, toCertificate);
  }

  @Mutation(() => RevokeCertificatePayload, {
    description: "Revokes a client certificate: within a second every listener refuses it. Owners only. Idempotent.",
  })
  async revokeCertificate(
    @Arg("input", () => RevokeCertificateInput, { description: "Which certificate." }) input: RevokeCertificateInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<RevokeCertificatePayload> {
    return toPayload(async () => ({
      certificate: toCertificate(await this.#service.revokeCertificate(caller, input.id)),
    }));
  }
}
