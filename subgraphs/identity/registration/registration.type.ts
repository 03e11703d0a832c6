import { Directive, Field, GraphQLISODateTime, ID, InputType, Int, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";

@ObjectType({
  description: "A secret with which nodes register themselves in a project. It is shown once, when it is created.",
})
@Directive('@key(fields: "id")')
export class RegistrationToken {
  @Field(() => ID, { description: "Global id." })
  id!: string;

  @Field({ description: "The project that nodes enter with it." })
  project!: string;

  @Field(() => Int, { description: "How many nodes it was made for." })
  uses!: number;

  @Field(() => Int, { description: "How many more it lets in." })
  usesLeft!: number;

  @Field({ description: "The subject that made it." })
  createdBy!: string;

  @Field(() => GraphQLISODateTime, { description: "When it was made." })
  createdAt!: Date;

  @Field(() => GraphQLISODateTime, { description: "When it stops being good by itself." })
  expiresAt!: Date;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "When it was revoked; null while it was not." })
  revokedAt!: Date | null;
}

export const { ConnectionType: RegistrationTokenConnection } = connectionTypes(
  "RegistrationToken",
  () => RegistrationToken,
);
export type RegistrationTokenPage = Connection<RegistrationToken>;

@InputType({ description: "A new registration token." })
export class CreateRegistrationTokenInput {
  @Field(() => String, {
    nullable: true,
    description: "The project. Default: the caller's; `main` for the administrator.",
  })
  project?: string | null;

  @Field(() => Int, { nullable: true, description: "How many nodes may use it, 1 to 10000. Default: 1." })
  uses?: number | null;

  @Field(() => Int, { nullable: true, description: "Hours until it expires, 1 to 8760. Default: 24." })
  expiresInHours?: number | null;
}

@ObjectType({ description: "What createRegistrationToken made." })
export class CreateRegistrationTokenPayload {
  @Field(() => RegistrationToken, { nullable: true, description: "What is known about it, null if refused." })
  registrationToken!: RegistrationToken | null;

  @Field(() => String, {
    nullable: true,
    description: "The token itself, for `slapos node register --token`. This is the only time it is shown.",
  })
  secret!: string | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}

@InputType({ description: "Which registration token to revoke." })
export class RevokeRegistrationTokenInput {
  @Field({ description: "Its global id." })
  id!: string;
}

@ObjectType({ description: "What revokeRegistrationToken did." })
export class RevokeRegistrationTokenPayload {
  @Field(() => RegistrationToken, { nullable: true, description: "The revoked token, null if refused." })
  registrationToken!: RegistrationToken | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
