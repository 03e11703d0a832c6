import { Arg, Args, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { naturalKeyOf, toGlobalId } from "../../common/global-id.js";
import { toConnection, toPage } from "../../common/pagination.js";
import { PageArgs } from "../../common/pagination.type.js";
import { toPayload } from "../../common/user-error.type.js";
import type { ShacacheContext } from "../context.js";
import type { TrustedCertificateRow, TrustedCertificateService } from "./trusted-certificate.service.js";
import {
  DistrustCertificateInput,
  TrustCertificateInput,
  TrustedCertificate,
  TrustedCertificateConnection,
  type TrustedCertificatePage,
  TrustedCertificatePayload,
} from "./trusted-certificate.type.js";

export function toTrustedCertificate(row: TrustedCertificateRow): TrustedCertificate {
  return {
    id: toGlobalId("TrustedCertificate", row.id),
    project: row.project,
    title: row.title,
    fingerprint: row.id.slice(row.project.length + 1),
    certificate: row.pem,
    createdAt: row.createdAt,
    createdBy: row.createdBy,
    distrustedAt: row.distrustedAt ?? null,
  };
}

@Resolver(() => TrustedCertificate)
export class TrustedCertificateResolver {
  readonly #service: TrustedCertificateService;

  constructor(service: TrustedCertificateService) {
    this.#service = service;
  }

  @Query(() => TrustedCertificateConnection, {
    description:
      "The certificates that the caller's project trusts to sign directory entries; the administrator sees all.",
  })
  async trustedCertificates(
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<TrustedCertificatePage> {
    const page = toPage(args);
    const rows = await this.#service.trustedCertificates(caller, page);
    return toConnection(rows, page, (row) => row.id, toTrustedCertificate);
  }

  @Mutation(() => TrustedCertificatePayload, {
    description:
      "Trusts a certificate to sign the project's directory entries. Owners only. Idempotent. User errors: NOT_FOUND, FORBIDDEN, BAD_USER_INPUT, STATE_CONFLICT.",
  })
  async trustCertificate(
    @Arg("input", () => TrustCertificateInput, { description: "Which certificate." }) input: TrustCertificateInput,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<TrustedCertificatePayload> {
    return toPayload(async () => ({
      trustedCertificate: toTrustedCertificate(await this.#service.trust(caller, input)),
    }));
  }

  @Mutation(() => TrustedCertificatePayload, {
    description:
      "Trusts a certificate no longer. Owners only. Idempotent. User errors: NOT_FOUND, FORBIDDEN, BAD_USER_INPUT.",
  })
  async distrustCertificate(
    @Arg("input", () => DistrustCertificateInput, { description: "Which certificate." })
    input: DistrustCertificateInput,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<TrustedCertificatePayload> {
    return toPayload(async () => {
      const id = naturalKeyOf("TrustedCertificate", input.id);
      return { trustedCertificate: toTrustedCertificate(await this.#service.distrust(caller, id)) };
    });
  }
}
