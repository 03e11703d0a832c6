import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { type Caller, mainProject, mayOwn, type Role } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { TokenEntity } from "../token/token.entity.js";
import { PersonEntity } from "./person.entity.js";

export type PersonRow = InferEntity<typeof PersonEntity>;

export class PersonService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Administrator only. ALREADY_EXISTS when the subject is taken. */
  async createPerson(caller: Caller, subject: string, displayName: string | null | undefined): Promise<PersonRow> {
    if (caller.kind !== "administrator") throw new AppError("FORBIDDEN", "Only the administrator creates persons.");
    if (!/^[A-Za-z0-9._@-]{1,64}$/.test(subject) || subject === "administrator") {
      throw new AppError(
        "BAD_USER_INPUT",
        "A subject is 1 to 64 of letters, digits and . _ @ -, and not `administrator`.",
        {
          details: { path: ["input", "subject"] },
        },
      );
    }
    if ((displayName?.length ?? 0) > 200) {
      throw new AppError("BAD_USER_INPUT", "A name has up to 200 characters.", {
        details: { path: ["input", "displayName"] },
      });
    }
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      if (await em.findOne(PersonEntity, { subject })) {
        throw new AppError("ALREADY_EXISTS", `There is a person ${subject}.`, {
          details: { path: ["input", "subject"] },
        });
      }
      const person = em.create(PersonEntity, { subject, displayName: displayName ?? subject, createdAt: new Date() });
      await append({ kind: "PersonCreated", subject, project: mainProject, actor: caller.subject });
      return person;
    });
  }

  async persons(caller: Caller, page: Page): Promise<PersonRow[]> {
    const em = this.#orm.em.fork();
    const { where, options } = keyset("subject", page);
    return em.find(PersonEntity, { $and: [where, await visibleTo(em, caller)] }, options);
  }

  async personsBySubject(caller: Caller, subjects: readonly string[]): Promise<(PersonRow | null)[]> {
    const em = this.#orm.em.fork();
    const named = { subject: { $in: [...subjects] } };
    const rows = await em.find(PersonEntity, { $and: [named, await visibleTo(em, caller)] });
    return subjects.map((subject) => rows.find((row) => row.subject === subject) ?? null);
  }

  /** The roles of each person in the projects that the caller sees, by project and role: what their good tokens say. */
  async rolesOf(caller: Caller, subjects: readonly string[]): Promise<HeldRole[][]> {
    const rows = await this.#orm.em.fork().find(
      TokenEntity,
      {
        kind: "person",
        subject: { $in: [...subjects] },
        revokedAt: null,
        expiresAt: { $gt: new Date() },
        ...(caller.kind === "administrator" ? {} : { project: caller.project }),
      },
      { orderBy: { project: "asc", role: "asc", expiresAt: "desc" } },
    );
    return subjects.map((subject) => {
      const held = new Map<string, HeldRole>();
      for (const { subject: holder, project, role, expiresAt } of rows) {
        const key = `${project} ${role}`;
        if (holder === subject && role && !held.has(key)) held.set(key, { project, role, expiresAt });
      }
      return [...held.values()];
    });
  }
}

export interface HeldRole {
  project: string;
  role: Role;
  expiresAt: Date;
}

/** The administrator sees every person, an owner those who were given a token of the project, a person itself. */
async function visibleTo(em: EntityManager, caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (!mayOwn(caller, caller.project)) return { subject: { $in: caller.kind === "person" ? [caller.subject] : [] } };
  const members = await em.execute<{ subject: string }[]>(
    `select distinct subject from identity.token where kind = 'person' and project = ? limit ${maxMembers}`,
    [caller.project],
  );
  return { subject: { $in: [caller.subject, ...members.map((row) => row.subject)] } };
}

const maxMembers = 10_000;
