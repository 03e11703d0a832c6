import { Directive, Field, Float, GraphQLISODateTime, ID, ObjectType } from "type-graphql";

@ObjectType({ description: "A blob of the Shacache, named by its SHA-512." })
@Directive('@key(fields: "id")')
export class Artifact {
  @Field(() => ID, { description: "Global id; its natural key is the sha512." })
  id!: string;

  @Field({ description: "The SHA-512 of its bytes, 128 lower-case hexadecimal digits." })
  sha512!: string;

  @Field(() => Float, { description: "Its size in bytes, an integer." })
  sizeBytes!: number;

  @Field(() => GraphQLISODateTime, { description: "When it was first stored." })
  createdAt!: Date;
}
