import { Field, Float, GraphQLISODateTime, Int, ObjectType } from "type-graphql";
import { UserError } from "../../common/user-error.type.js";

@ObjectType({
  description: "How the scrub stands, which reads every blob from end to end and quarantines what is not intact.",
})
export class ScrubProgress {
  @Field(() => GraphQLISODateTime, {
    nullable: true,
    description: "When the present or last pass began; null before the first.",
  })
  startedAt!: Date | null;

  @Field(() => GraphQLISODateTime, {
    nullable: true,
    description: "When the last whole pass ended; null before the first.",
  })
  finishedAt!: Date | null;

  @Field(() => Float, { description: "How many blobs the last whole pass read." })
  checkedBlobs!: number;

  @Field(() => Float, { description: "How many bytes the last whole pass read." })
  checkedBytes!: number;

  @Field(() => Float, { description: "How many blobs the last whole pass quarantined." })
  quarantined!: number;
}

@ObjectType({ description: "What the Shacache holds, and how it is read." })
export class CacheStatistics {
  @Field(() => String, { nullable: true, description: "The project whose blobs are counted; null for all together." })
  project!: string | null;

  @Field(() => Int, { description: "How many blobs there are." })
  artifactCount!: number;

  @Field(() => Float, { description: "Their bytes together, an integer." })
  sizeBytes!: number;

  @Field(() => Int, { description: "How many directory entries." })
  entryCount!: number;

  @Field(() => Float, { description: "How many reads found their blob, existence probes included. Of the whole door." })
  hits!: number;

  @Field(() => Float, {
    description: "How many reads found none. Of the whole door; each upload of the real client begins with one.",
  })
  misses!: number;

  @Field(() => Float, { nullable: true, description: "Hits among all reads, 0 to 1; null without any read." })
  hitRate!: number | null;

  @Field(() => Float, { description: "How many bytes of blobs were sent. Of the whole door." })
  sentBytes!: number;

  @Field(() => ScrubProgress, { description: "How the scrub stands." })
  scrub!: ScrubProgress;
}

@ObjectType({ description: "What scrubArtifacts did." })
export class ScrubArtifactsPayload {
  @Field(() => Boolean, { nullable: true, description: "Whether a pass was begun or is running; null if refused." })
  isRunning!: boolean | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
