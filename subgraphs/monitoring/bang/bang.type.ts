import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType, registerEnumType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";

export enum BangScope {
  INSTANCE = "INSTANCE",
  COMPUTER = "COMPUTER",
}

registerEnumType(BangScope, {
  name: "BangScope",
  description: "What a bang asks to be processed again.",
  valuesConfig: {
    INSTANCE: { description: "Every partition of the instance's tree." },
    COMPUTER: { description: "Every tree that the computer hosts a part of." },
  },
});

@ObjectType({ description: "A call to process a tree or a computer again, because something stays broken." })
@Directive('@key(fields: "id")')
export class Bang {
  @Field(() => ID, { description: "Global id." })
  id!: string;

  @Field(() => BangScope, { description: "What it asks to be processed again." })
  scope!: BangScope;

  @Field({ description: "Its cause in words, 1 to 5,000 characters: the failing promise, the process that ended." })
  message!: string;

  @Field(() => GraphQLISODateTime, { description: "When it was accepted." })
  at!: Date;

  @Field({ description: "Who banged: a computer's reference when its node did, else the subject of a token." })
  actor!: string;

  @Field({ description: "The computer that it is about." })
  computerReference!: string;

  @Field(() => String, { nullable: true, description: "The Partition Key that it is about; null for a computer's." })
  partitionKey!: string | null;

  @Field(() => String, {
    nullable: true,
    description: "The instance that was in the partition; null for a computer's.",
  })
  instanceReference!: string | null;
}

export const { ConnectionType: BangConnection } = connectionTypes("Bang", () => Bang);
export type BangPage = Connection<Bang>;

@InputType({ description: "What to bang, and why." })
export class BangInput {
  @Field({ description: "The instance's or the computer's reference." })
  reference!: string;

  @Field({ description: "Why, 1 to 5,000 characters." })
  message!: string;
}

@ObjectType({ description: "What a bang did." })
export class BangPayload {
  @Field(() => Bang, { nullable: true, description: "The accepted bang, null if refused." })
  bang!: Bang | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
