import { Field, InputType, Int, ObjectType } from "type-graphql";
import { UserError } from "../../../common/user-error.type.js";
import { SoftwareInstance } from "./instance.type.js";

@InputType({ description: "Which instance a token is for." })
export class CreateInstanceTokenInput {
  @Field({ description: "The instance's reference." })
  reference!: string;

  @Field(() => Int, { nullable: true, description: "Days until it expires, 1 to 3650. Default: 365." })
  expiresInDays?: number | null;
}

@ObjectType({ description: "What createInstanceToken made." })
export class CreateInstanceTokenPayload {
  @Field(() => SoftwareInstance, { nullable: true, description: "The instance, null if refused." })
  instance!: SoftwareInstance | null;

  @Field(() => String, { nullable: true, description: "The token itself. This is the only time it is shown." })
  credential!: string | null;

  @Field(() => String, { nullable: true, description: "The SLAP door's address with the token in it." })
  masterUrl!: string | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
