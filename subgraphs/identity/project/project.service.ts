import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import type { Caller } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { ProjectEntity } from "./project.entity.js";

export type ProjectRow = InferEntity<typeof ProjectEntity>;

export class ProjectService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Administrator only. ALREADY_EXISTS when the name is taken. */
  async createProject(caller: Caller, name: string, title: string | null | undefined): Promise<ProjectRow> {
    if (caller.kind !== "administrator") throw new AppError("FORBIDDEN", "Only the administrator creates projects.");
    if (!/^[a-z][a-z0-9-]{0,62}$/.test(name)) {
      throw new AppError("BAD_USER_INPUT", "A project's name is 1 to 63 of a-z, 0-9 and -, beginning with a letter.", {
        details: { path: ["input", "name"] },
      });
    }
    if ((title?.length ?? 0) > 200) {
      throw new AppError("BAD_USER_INPUT", "A title has up to 200 characters.", {
        details: { path: ["input", "title"] },
      });
    }
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      if (await em.findOne(ProjectEntity, { name })) {
        throw new AppError("ALREADY_EXISTS", `There is a project ${name}.`, { details: { path: ["input", "name"] } });
      }
      const project = em.create(ProjectEntity, { name, title: title ?? name, createdAt: new Date() });
      await append({ kind: "ProjectCreated", subject: name, project: name, actor: caller.subject });
      return project;
    });
  }

  async projects(caller: Caller, page: Page): Promise<ProjectRow[]> {
    const { where, options } = keyset("name", page);
    const visible = caller.kind === "administrator" ? {} : { name: caller.project };
    return this.#orm.em.fork().find(ProjectEntity, { $and: [where, visible] }, options);
  }

  async projectsByName(caller: Caller, names: readonly string[]): Promise<(ProjectRow | null)[]> {
    const visible = names.filter((name) => caller.kind === "administrator" || caller.project === name);
    const rows = await this.#orm.em.fork().find(ProjectEntity, { name: { $in: visible } });
    return names.map((name) => rows.find((row) => row.name === name) ?? null);
  }
}
