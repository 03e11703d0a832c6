import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";

@ObjectType({
  description: "A realm of its own: computers, releases, instances and persons' roles belong to one project.",
})
@Directive('@key(fields: "id")')
export class Project {
  @Field(() => ID, { description: "Global id." })
  id!: string;

  @Field({ description: "The project's name, unique on this master. `main` exists from the start." })
  name!: string;

  @Field({ description: "A title for people." })
  title!: string;

  @Field(() => GraphQLISODateTime, { description: "When it was created." })
  createdAt!: Date;
}

export const { ConnectionType: ProjectConnection } = connectionTypes("Project", () => Project);
export type ProjectPage = Connection<Project>;

@InputType({ description: "A new project." })
export class CreateProjectInput {
  @Field({ description: "1 to 63 of a-z, 0-9 and -, beginning with a letter." })
  name!: string;

  @Field(() => String, { nullable: true, description: "A title for people, up to 200 characters. Default: the name." })
  title?: string | null;
}

@ObjectType({ description: "What createProject made." })
export class CreateProjectPayload {
  @Field(() => Project, { nullable: true, description: "The new project, null if refused." })
  project!: Project | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
