import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType, registerEnumType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";

export enum SoftwareReleaseState {
  PUBLISHED = "PUBLISHED",
  DEPRECATED = "DEPRECATED",
  WITHDRAWN = "WITHDRAWN",
}

registerEnumType(SoftwareReleaseState, {
  name: "SoftwareReleaseState",
  description: "Whether a release is meant to be used.",
  valuesConfig: {
    PUBLISHED: { description: "It is meant to be used." },
    DEPRECATED: { description: "It works; a newer one is better." },
    WITHDRAWN: { description: "It is not to be used any more; it is no longer listed to nodes." },
  },
});

@ObjectType({ description: "A software release, named by its url. It may be referenced before anyone published it." })
@Directive('@key(fields: "id")')
export class SoftwareRelease {
  @Field(() => ID, { description: "Global id; its natural key is the url." })
  id!: string;

  @Field({ description: "The release's url, which names it everywhere in SlapOS." })
  @Directive("@shareable")
  url!: string;

  @Field(() => String, { nullable: true, description: "Its version, as its publisher named it." })
  version!: string | null;

  @Field(() => SoftwareReleaseState, {
    nullable: true,
    description: "Whether it is meant to be used; null if nobody published it.",
  })
  state!: SoftwareReleaseState | null;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "When it was first published; null if nobody did." })
  publishedAt!: Date | null;

  productKey!: string | null;
}

export const { ConnectionType: ReleaseConnection } = connectionTypes("SoftwareRelease", () => SoftwareRelease);
export type ReleasePage = Connection<SoftwareRelease>;

@InputType({ description: "A release to publish." })
export class PublishSoftwareReleaseInput {
  @Field({ description: "The name of the product that it is a release of." })
  productName!: string;

  @Field({ description: "Its url: a URL or an absolute path, 1 to 2,000 characters without white space." })
  url!: string;

  @Field(() => String, { nullable: true, description: "Its version, up to 100 characters." })
  version?: string | null;

  @Field(() => String, {
    nullable: true,
    description: "The product's project. Default: the caller's; `main` for the administrator.",
  })
  project?: string | null;
}

@InputType({ description: "A release to deprecate or withdraw." })
export class RetireSoftwareReleaseInput {
  @Field({ description: "Its url." })
  url!: string;

  @Field(() => String, { nullable: true, description: "Why, up to 1,000 characters." })
  reason?: string | null;
}

@ObjectType({ description: "What a command about a release did." })
export class SoftwareReleasePayload {
  @Field(() => SoftwareRelease, { nullable: true, description: "The release, null if refused." })
  softwareRelease!: SoftwareRelease | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
