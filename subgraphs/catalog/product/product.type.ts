import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";

@ObjectType({ description: "A piece of software that is published in releases." })
@Directive('@key(fields: "id")')
export class SoftwareProduct {
  @Field(() => ID, { description: "Global id; its natural key is the project, a slash, and the name." })
  id!: string;

  @Field({ description: "Its name, unique in the project." })
  name!: string;

  @Field({ description: "A title for people." })
  title!: string;

  @Field({ description: "What it is, for people; empty if nobody said." })
  description!: string;

  @Field({ description: "The name of the project that it belongs to." })
  project!: string;

  @Field(() => GraphQLISODateTime, { description: "When it was created." })
  createdAt!: Date;
}

export const { ConnectionType: ProductConnection } = connectionTypes("SoftwareProduct", () => SoftwareProduct);
export type ProductPage = Connection<SoftwareProduct>;

@InputType({ description: "A new product." })
export class CreateSoftwareProductInput {
  @Field({ description: "1 to 100 of letters, digits and . _ -, beginning with a letter or digit." })
  name!: string;

  @Field(() => String, { nullable: true, description: "A title for people, up to 200 characters. Default: the name." })
  title?: string | null;

  @Field(() => String, { nullable: true, description: "What it is, up to 5,000 characters." })
  description?: string | null;

  @Field(() => String, {
    nullable: true,
    description: "The project. Default: the caller's; `main` for the administrator.",
  })
  project?: string | null;
}

@ObjectType({ description: "What createSoftwareProduct made." })
export class CreateSoftwareProductPayload {
  @Field(() => SoftwareProduct, { nullable: true, description: "The new product, null if refused." })
  softwareProduct!: SoftwareProduct | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
