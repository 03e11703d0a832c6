import { Field, Float, GraphQLISODateTime, ObjectType } from "type-graphql";
import { UserError } from "../../common/user-error.type.js";

@ObjectType({ description: "How the present or last making anew of the Shacache's index from its store stands." })
export class Reindex {
  @Field(() => GraphQLISODateTime, { nullable: true, description: "When it was asked for; null before the first." })
  startedAt!: Date | null;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "When it ended; null while it is under way." })
  finishedAt!: Date | null;

  @Field(() => Float, { description: "How many directory entries the index was given back." })
  restoredEntries!: number;

  @Field(() => Float, { description: "How many blobs." })
  restoredArtifacts!: number;

  @Field(() => Float, { description: "How many bytes of the store were read for that." })
  readBytes!: number;

  @Field(() => String, {
    nullable: true,
    description: "Why it broke off, or what it had to leave out; null where all is well.",
  })
  failure!: string | null;
}

@ObjectType({ description: "What reindexArtifacts did." })
export class ReindexArtifactsPayload {
  @Field(() => Reindex, { nullable: true, description: "The run that is under way now; null if refused." })
  reindex!: Reindex | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
