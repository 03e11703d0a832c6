import { Field, Float, InputType, Int, ObjectType } from "type-graphql";
import { graphqlEnum } from "../../common/enum.type.js";
import { type Connection, connectionTypes } from "../../common/pagination.type.js";
import { UserError } from "../../common/user-error.type.js";
import { Artifact } from "../artifact/artifact.type.js";
import { DirectoryEntry } from "../directory-entry/directory-entry.type.js";
import type { RetentionRule as Rule } from "./retention.service.js";

export const RetentionRule = graphqlEnum<Rule>("RetentionRule", "By which rule of its project's policy a blob goes.", {
  AGE: "It was stored, and entered into the directory, longer ago than `maxAgeDays`.",
  UNREAD: "Nobody has read, stored or entered it for `maxUnreadDays`.",
  NEWEST_PER_KEY: "All of its entries are beyond the newest `newestPerKey` of their keys.",
});

@ObjectType({ description: "A blob that a collection would remove." })
export class CollectableArtifact {
  @Field(() => Artifact, { description: "The blob." })
  artifact!: Artifact;

  @Field(() => RetentionRule, { description: "Why it would go: the first rule that says so." })
  rule!: Rule;
}

export const { ConnectionType: CollectableArtifactConnection } = connectionTypes(
  "CollectableArtifact",
  () => CollectableArtifact,
);
export type CollectableArtifactPage = Connection<CollectableArtifact>;

@ObjectType({ description: "What a collection would remove of a project if it ran now." })
export class RetentionPreview {
  @Field({ description: "The project's name." })
  project!: string;

  @Field(() => Int, { description: "How many blobs would go." })
  artifactCount!: number;

  @Field(() => Float, { description: "How many bytes they have together, an integer." })
  sizeBytes!: number;
}

@InputType({ description: "What to collect." })
export class CollectArtifactsInput {
  @Field(() => String, { nullable: true, description: "For the administrator: of which project. Default: `main`." })
  project?: string | null;
}

@ObjectType({ description: "What collectArtifacts removed." })
export class CollectArtifactsPayload {
  @Field(() => String, { nullable: true, description: "Of which project; null if refused." })
  project!: string | null;

  @Field(() => Int, { nullable: true, description: "How many blobs; null if refused." })
  artifactCount!: number | null;

  @Field(() => Float, { nullable: true, description: "How many bytes, an integer; null if refused." })
  sizeBytes!: number | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}

@InputType({ description: "Which blob to pin or unpin." })
export class PinArtifactInput {
  @Field({ description: "Its SHA-512, 128 hexadecimal digits." })
  sha512!: string;
}

@ObjectType({ description: "What pinArtifact or unpinArtifact did." })
export class PinArtifactPayload {
  @Field(() => Artifact, { nullable: true, description: "The blob, null if refused." })
  artifact!: Artifact | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}

@InputType({ description: "Which directory entry to pin or unpin." })
export class PinDirectoryEntryInput {
  @Field({ description: "The entry's global id." })
  id!: string;
}

@ObjectType({ description: "What pinDirectoryEntry or unpinDirectoryEntry did." })
export class PinDirectoryEntryPayload {
  @Field(() => DirectoryEntry, { nullable: true, description: "The entry, null if refused." })
  directoryEntry!: DirectoryEntry | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
