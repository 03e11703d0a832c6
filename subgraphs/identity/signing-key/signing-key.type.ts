import { Field, GraphQLISODateTime, InputType, Int, ObjectType } from "type-graphql";
import { UserError } from "../../../common/user-error.type.js";

@ObjectType({ description: "A key of this master that signs tokens, or did." })
export class SigningKey {
  @Field({ description: "Its `kid`, which the tokens that it signed name in their header." })
  keyId!: string;

  @Field({ description: "Whether new tokens are signed with it. One is." })
  isCurrent!: boolean;

  @Field(() => GraphQLISODateTime, { description: "When it was made." })
  createdAt!: Date;

  @Field(() => GraphQLISODateTime, {
    nullable: true,
    description: "When what it signed stops being good, revoked or not; null while it is the one that signs.",
  })
  endsAt!: Date | null;
}

@InputType({ description: "How the signing key changes." })
export class RotateSigningKeyInput {
  @Field(() => Int, {
    defaultValue: 3650,
    description:
      "Days for which tokens that earlier keys signed stay good, unless they end or are revoked before: 0 to 3650. With 0 every token but the administrator's ends at once.",
  })
  keepEarlierDays!: number;
}

@ObjectType({ description: "What rotateSigningKey did." })
export class RotateSigningKeyPayload {
  @Field(() => SigningKey, { nullable: true, description: "The key that signs now, null if refused." })
  signingKey!: SigningKey | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
