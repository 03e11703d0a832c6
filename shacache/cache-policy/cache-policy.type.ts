import { Field, Float, InputType, Int, ObjectType } from "type-graphql";
import { graphqlEnum } from "../../common/enum.type.js";
import { UserError } from "../../common/user-error.type.js";
import type { UntrustedEntriesRule as Rule } from "./cache-policy.service.js";

export const UntrustedEntriesRule = graphqlEnum<Rule>(
  "UntrustedEntriesRule",
  "What becomes of a directory entry that none of the project's trusted certificates signed. Without such certificates nothing is checked.",
  {
    MARK: "It is kept, and its signature says UNTRUSTED or UNSIGNED.",
    REFUSE: "The upload is refused with UNTRUSTED_SIGNATURE.",
  },
);

@ObjectType({
  description:
    "What a project's owners decided about their part of the Shacache: limits of uploads, and what is collected.",
})
export class CachePolicy {
  @Field({ description: "The project's name." })
  project!: string;

  @Field(() => UntrustedEntriesRule, { description: "Default: MARK." })
  untrustedEntries!: Rule;

  @Field(() => Float, {
    nullable: true,
    description:
      "How many bytes the project's blobs may have together; beyond it uploads are QUOTA_EXCEEDED. Null: no quota.",
  })
  quotaBytes!: number | null;

  @Field(() => Float, {
    nullable: true,
    description: "How many bytes one blob may have; a larger one is PAYLOAD_TOO_LARGE. Null: the door's own limit.",
  })
  maxBlobBytes!: number | null;

  @Field(() => Int, {
    nullable: true,
    description: "How many uploads of blobs and entries a minute; beyond it RATE_LIMITED. Null: no limit.",
  })
  uploadsPerMinute!: number | null;

  @Field(() => Int, {
    nullable: true,
    description:
      "A blob that was stored, and entered into the directory, longer ago than so many days is collected. Null: no such rule.",
  })
  maxAgeDays!: number | null;

  @Field(() => Int, {
    nullable: true,
    description: "A blob that nobody has read, stored or entered for so many days is collected. Null: no such rule.",
  })
  maxUnreadDays!: number | null;

  @Field(() => Int, {
    nullable: true,
    description:
      "Of a key only so many newest entries are kept, and a blob that loses its last entry by that is collected. Null: no such rule.",
  })
  newestPerKey!: number | null;
}

@InputType({
  description: "What to change of a project's cache policy. What is not given stays; null takes a limit or rule away.",
})
export class SetCachePolicyInput {
  @Field(() => String, { nullable: true, description: "For the administrator: which project. Default: `main`." })
  project?: string | null;

  @Field(() => UntrustedEntriesRule, { nullable: true, description: "What becomes of untrusted entries." })
  untrustedEntries?: Rule;

  @Field(() => Float, { nullable: true, description: "In bytes, a whole number." })
  quotaBytes?: number | null;

  @Field(() => Float, { nullable: true, description: "In bytes, a whole number." })
  maxBlobBytes?: number | null;

  @Field(() => Int, { nullable: true, description: "1 to 1,000,000." })
  uploadsPerMinute?: number | null;

  @Field(() => Int, { nullable: true, description: "1 to 36,500." })
  maxAgeDays?: number | null;

  @Field(() => Int, { nullable: true, description: "1 to 36,500." })
  maxUnreadDays?: number | null;

  @Field(() => Int, { nullable: true, description: "1 to 100." })
  newestPerKey?: number | null;
}

@ObjectType({ description: "What setCachePolicy did." })
export class SetCachePolicyPayload {
  @Field(() => CachePolicy, { nullable: true, description: "The policy as it is now, null if refused." })
  cachePolicy!: CachePolicy | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
