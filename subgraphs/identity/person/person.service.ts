import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { type Caller, mainProject } from "../../../common/identity.js";
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

  /** The administrator sees every person, a person itself. */
  async personsBySubject(caller: Caller, subjects: readonly string[]): Promise<(PersonRow | null)[]> {
    const visible = subjects.filter(
      (subject) => caller.kind === "administrator" || (caller.kind === "person" && caller.subject === subject),
    );
    const rows = await this.#orm.em.fork().find(PersonEntity, { subject: { $in: visible } });
    return subjects.map((subject) => rows.find((row) => row.subject === subject) ?? null);
  }
}
