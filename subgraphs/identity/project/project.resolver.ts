import { Arg, Args, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { IdentityContext } from "../context.js";
import type { ProjectRow, ProjectService } from "./project.service.js";
import {
  CreateProjectInput,
  CreateProjectPayload,
  Project,
  ProjectConnection,
  type ProjectPage,
} from "./project.type.js";

export function toProject(row: ProjectRow): Project {
  return { id: toGlobalId("Project", row.name), name: row.name, title: row.title, createdAt: row.createdAt };
}

@Resolver(() => Project)
export class ProjectResolver {
  readonly #service: ProjectService;

  constructor(service: ProjectService) {
    this.#service = service;
  }

  @Query(() => ProjectConnection, {
    nullable: true,
    description: "The projects that the caller belongs to; all, for the administrator.",
  })
  async projects(@Args(() => PageArgs) args: PageArgs, @Ctx() { caller }: IdentityContext): Promise<ProjectPage> {
    const page = toPage(args);
    return toConnection(await this.#service.projects(caller, page), page, (row) => row.name, toProject);
  }

  @Query(() => Project, { nullable: true, description: "One project; null if there is none for this caller." })
  async project(
    @Arg("name", () => String, { description: "The project's name." }) name: string,
    @Ctx() { loaders }: IdentityContext,
  ): Promise<Project | null> {
    const row = await loaders.projects.load(name);
    return row && toProject(row);
  }

  @Mutation(() => CreateProjectPayload, { description: "Creates a project. Administrator only." })
  async createProject(
    @Arg("input", () => CreateProjectInput, { description: "The new project." }) input: CreateProjectInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<CreateProjectPayload> {
    return toPayload(async () => ({
      project: toProject(await this.#service.createProject(caller, input.name, input.title)),
    }));
  }
}
