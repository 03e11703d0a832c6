import { Directive, Field, ID, ObjectType } from "type-graphql";

@ObjectType({ description: "A slot of a computer that holds at most one instance." })
@Directive('@key(fields: "id")')
export class ComputerPartition {
  @Field(() => ID, { description: "Global id; its natural key is the partition key." })
  id!: string;
}
