import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";
import { Role, Token } from "../token/token.type.js";

@ObjectType({ description: "Somebody who holds tokens, each with a role in one project." })
@Directive('@key(fields: "id")')
export class Person {
  @Field(() => ID, { description: "Global id." })
  id!: string;

  @Field({ description: "The name that tokens and events carry, unique on this master." })
  subject!: string;

  @Field({ description: "A name for people." })
  displayName!: string;

  @Field(() => GraphQLISODateTime, { description: "When the person was created." })
  createdAt!: Date;
}

export const { ConnectionType: PersonConnection } = connectionTypes("Person", () => Person);
export type PersonPage = Connection<Person>;

@ObjectType({ description: "A role that a person holds in a project, by at least one token that is good." })
export class PersonRole {
  @Field({ description: "The project's name." })
  project!: string;

  @Field(() => Role, { description: "The role." })
  role!: Role;

  @Field(() => GraphQLISODateTime, { description: "When the last of its tokens ends by itself." })
  expiresAt!: Date;
}

@InputType({ description: "Whose roles to end, and where." })
export class RevokeRoleInput {
  @Field({ description: "The person's subject." })
  person!: string;

  @Field(() => String, {
    nullable: true,
    description: "The project. Default: the caller's; `main` for the administrator.",
  })
  project?: string | null;
}

@ObjectType({ description: "What revokeRole did." })
export class RevokeRolePayload {
  @Field(() => [Token], { nullable: true, description: "The tokens that it revoked, at most 1,000; null if refused." })
  tokens!: Token[] | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}

@InputType({ description: "A new person." })
export class CreatePersonInput {
  @Field({ description: "1 to 64 of letters, digits and . _ @ -." })
  subject!: string;

  @Field(() => String, {
    nullable: true,
    description: "A name for people, up to 200 characters. Default: the subject.",
  })
  displayName?: string | null;
}

@ObjectType({ description: "What createPerson made." })
export class CreatePersonPayload {
  @Field(() => Person, { nullable: true, description: "The new person, null if refused." })
  person!: Person | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
