import { Directive, Field, ID, ObjectType } from "type-graphql";

@ObjectType({ description: "A machine that runs a SlapOS node." })
@Directive('@key(fields: "id")')
export class Computer {
  @Field(() => ID, { description: "Global id; its natural key is the reference." })
  id!: string;
}
