import { Arg, Args, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { IdentityContext } from "../context.js";
import type { RegistrationService, RegistrationTokenView } from "./registration.service.js";
import {
  CreateRegistrationTokenInput,
  CreateRegistrationTokenPayload,
  RegistrationToken,
  RegistrationTokenConnection,
  type RegistrationTokenPage,
  RevokeRegistrationTokenInput,
  RevokeRegistrationTokenPayload,
} from "./registration.type.js";

export function toRegistrationToken(row: RegistrationTokenView): RegistrationToken {
  return {
    id: toGlobalId("RegistrationToken", row.id),
    project: row.project,
    uses: row.uses,
    usesLeft: row.usesLeft,
    createdBy: row.createdBy,
    createdAt: row.createdAt,
    expiresAt: row.expiresAt,
    revokedAt: row.revokedAt ?? null,
  };
}

@Resolver(() => RegistrationToken)
export class RegistrationResolver {
  readonly #service: RegistrationService;

  constructor(service: RegistrationService) {
    this.#service = service;
  }

  @Query(() => RegistrationTokenConnection, {
    nullable: true,
    description: "The project's registration tokens, for its owners; empty for others.",
  })
  async registrationTokens(
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { caller }: IdentityContext,
  ): Promise<RegistrationTokenPage> {
    const page = toPage(args);
    const rows = await this.#service.registrationTokens(caller, page);
    return toConnection(rows, page, (row) => row.id, toRegistrationToken);
  }

  @Mutation(() => CreateRegistrationTokenPayload, {
    description: "Creates a token with which nodes register themselves. Owners of the project only.",
  })
  async createRegistrationToken(
    @Arg("input", () => CreateRegistrationTokenInput, { description: "How it may be used." })
    input: CreateRegistrationTokenInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<CreateRegistrationTokenPayload> {
    return toPayload(async () => {
      const { row, secret } = await this.#service.createRegistrationToken(caller, input);
      return { registrationToken: toRegistrationToken(row), secret };
    });
  }

  @Mutation(() => RevokeRegistrationTokenPayload, {
    description: "Revokes a registration token; nodes that used it stay. Owners only. Idempotent.",
  })
  async revokeRegistrationToken(
    @Arg("input", () => RevokeRegistrationTokenInput, { description: "Which token." })
    input: RevokeRegistrationTokenInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<RevokeRegistrationTokenPayload> {
    return toPayload(async () => ({
      registrationToken: toRegistrationToken(await this.#service.revokeRegistrationToken(caller, input.id)),
    }));
  }
}
