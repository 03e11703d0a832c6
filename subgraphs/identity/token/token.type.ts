import { Directive, Field, GraphQLISODateTime, ID, InputType, Int, ObjectType, registerEnumType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";

export enum TokenKind {
  PERSON = "person",
  NODE = "node",
  INSTANCE = "instance",
}

export enum Role {
  OWNER = "OWNER",
  USER = "USER",
  VIEWER = "VIEWER",
}

registerEnumType(TokenKind, {
  name: "TokenKind",
  description: "What a token's principal is.",
  valuesConfig: {
    PERSON: { description: "Somebody with a role in the token's project." },
    NODE: { description: "A computer, which reports about itself and reads what it must run." },
    INSTANCE: { description: "A software instance, which sees its own partition." },
  },
});

registerEnumType(Role, {
  name: "Role",
  description: "What a person may do in a project.",
  valuesConfig: {
    OWNER: { description: "Computers, tokens, supply, catalog and all instances of the project." },
    USER: { description: "Requests instances, sees and changes its own, sees what can be requested." },
    VIEWER: { description: "Reads all of the project but parameters that carry credentials." },
  },
});

@ObjectType({
  description: "A token that was issued. The token itself is shown once, when it is created, and not stored.",
})
@Directive('@key(fields: "id")')
export class Token {
  @Field(() => ID, { description: "Global id; its natural key is the token's `jti`." })
  id!: string;

  @Field({ description: "The token's `jti`." })
  tokenId!: string;

  @Field(() => TokenKind, { description: "What its principal is." })
  kind!: TokenKind;

  @Field({ description: "The principal: a person's subject, a computer's or an instance's reference." })
  subject!: string;

  @Field({ description: "The project it is good in." })
  project!: string;

  @Field(() => Role, { nullable: true, description: "A person's role in the project; null for the others." })
  role!: Role | null;

  @Field(() => GraphQLISODateTime, { description: "When it was issued." })
  issuedAt!: Date;

  @Field(() => GraphQLISODateTime, { description: "When it stops being good by itself." })
  expiresAt!: Date;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "When it was revoked; null while it was not." })
  revokedAt!: Date | null;
}

export const { ConnectionType: TokenConnection } = connectionTypes("Token", () => Token);
export type TokenPage = Connection<Token>;

@InputType({ description: "A new token: for a person with a role, or another one for a computer." })
export class CreateTokenInput {
  @Field(() => String, {
    nullable: true,
    description: "The person it is for. Give this with `role`, or `computerReference`.",
  })
  person?: string | null;

  @Field(() => Role, { nullable: true, description: "The person's role in the project." })
  role?: Role | null;

  @Field(() => String, {
    nullable: true,
    description: "The computer it is for, whose earlier tokens stay good until revoked.",
  })
  computerReference?: string | null;

  @Field(() => String, {
    nullable: true,
    description: "The project. Default: the caller's; `main` for the administrator.",
  })
  project?: string | null;

  @Field(() => Int, {
    nullable: true,
    description: "Days until it expires, 1 to 3650. Default: 90 for a person, 3650 for a computer.",
  })
  expiresInDays?: number | null;
}

@ObjectType({ description: "What createToken made." })
export class CreateTokenPayload {
  @Field(() => Token, { nullable: true, description: "What is known about the token, null if refused." })
  token!: Token | null;

  @Field(() => String, { nullable: true, description: "The token itself. This is the only time it is shown." })
  secret!: string | null;

  @Field(() => String, {
    nullable: true,
    description: "For a computer's token: what to write as `master_url` into its node's slapos.cfg. Null otherwise.",
  })
  masterUrl!: string | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}

@InputType({ description: "Which token to revoke." })
export class RevokeTokenInput {
  @Field({ description: "The token's global id or its `jti`." })
  id!: string;
}

@ObjectType({ description: "What revokeToken did." })
export class RevokeTokenPayload {
  @Field(() => Token, { nullable: true, description: "The revoked token, null if refused." })
  token!: Token | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
