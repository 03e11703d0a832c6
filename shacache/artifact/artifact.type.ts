import { Directive, Field, Float, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../common/pagination.type.js";
import type { ArtifactFilterValues } from "./artifact-filter.js";

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

  @Field({
    description:
      "Who uploaded it first: a computer's reference, a person's subject, `anonymous` where writes are open.",
  })
  uploadedBy!: string;

  @Field({ description: "The project whose quota it counts for, and whose policy it falls under." })
  project!: string;

  @Field(() => GraphQLISODateTime, {
    description: "When it was last stored, or entered into the directory: what its age counts from.",
  })
  renewedAt!: Date;

  @Field(() => GraphQLISODateTime, {
    nullable: true,
    description: "When it was last read, a minute behind at most; null if never. Existence probes count.",
  })
  lastReadAt!: Date | null;

  @Field(() => Float, { description: "How often it was read, a minute behind at most." })
  readCount!: number;

  @Field({ description: "Whether an owner of its project pinned it: it is never collected then." })
  isPinned!: boolean;
}

export const { ConnectionType: ArtifactConnection } = connectionTypes("Artifact", () => Artifact);
export type ArtifactPage = Connection<Artifact>;

@InputType({ description: "Which blobs. Each that is given narrows the list." })
export class ArtifactFilter implements ArtifactFilterValues {
  @Field(() => String, { nullable: true, description: "Of this project." })
  project?: string | null;

  @Field(() => String, { nullable: true, description: "First uploaded by this subject." })
  uploadedBy?: string | null;

  @Field(() => String, { nullable: true, description: "With a directory entry under this key." })
  key?: string | null;

  @Field(() => String, {
    nullable: true,
    description: "With a directory entry that says it is a build of this release.",
  })
  releaseUrl?: string | null;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "Not read at or after this time." })
  unreadSince?: Date | null;

  @Field(() => Float, { nullable: true, description: "With at least so many bytes." })
  minSizeBytes?: number | null;

  @Field(() => Boolean, { nullable: true, description: "Pinned, or not." })
  isPinned?: boolean | null;
}
