import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { UserError } from "../../../common/user-error.type.js";

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
