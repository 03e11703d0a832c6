import { Arg, Args, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { IdentityContext } from "../context.js";
import type { TokenRow, TokenService } from "./token.service.js";
import {
  CreateTokenInput,
  CreateTokenPayload,
  RevokeTokenInput,
  RevokeTokenPayload,
  type Role,
  Token,
  TokenConnection,
  type TokenKind,
  type TokenPage,
} from "./token.type.js";

export function toToken(row: TokenRow): Token {
  return {
    id: toGlobalId("Token", row.id),
    tokenId: row.id,
    kind: row.kind as TokenKind,
    subject: row.subject,
    project: row.project,
    role: row.role as Role | null,
    issuedAt: row.issuedAt,
    expiresAt: row.expiresAt,
    revokedAt: row.revokedAt ?? null,
  };
}

@Resolver(() => Token)
export class TokenResolver {
  readonly #service: TokenService;
  readonly #masterUrl: (credential: string) => string;

  constructor(service: TokenService, masterUrl: (credential: string) => string) {
    this.#service = service;
    this.#masterUrl = masterUrl;
  }

  @Query(() => TokenConnection, {
    nullable: true,
    description: "The project's tokens for its owners, the caller's own for others.",
  })
  async tokens(@Args(() => PageArgs) args: PageArgs, @Ctx() { caller }: IdentityContext): Promise<TokenPage> {
    const page = toPage(args);
    return toConnection(await this.#service.tokens(caller, page), page, (row) => row.id, toToken);
  }

  @Mutation(() => CreateTokenPayload, {
    description: "Creates a token. Owners of the project only. The secret is shown once.",
  })
  async createToken(
    @Arg("input", () => CreateTokenInput, { description: "Whom it is for." }) input: CreateTokenInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<CreateTokenPayload> {
    return toPayload(async () => {
      const { row, secret } = await this.#service.createToken(caller, input);
      return { token: toToken(row), secret, masterUrl: row.kind === "node" ? this.#masterUrl(secret) : null };
    });
  }

  @Mutation(() => RevokeTokenPayload, {
    description: "Revokes a token: within a second every door refuses it and its open subscriptions end. Idempotent.",
  })
  async revokeToken(
    @Arg("input", () => RevokeTokenInput, { description: "Which token." }) input: RevokeTokenInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<RevokeTokenPayload> {
    return toPayload(async () => ({ token: toToken(await this.#service.revokeToken(caller, input.id)) }));
  }
}
