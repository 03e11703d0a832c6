import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append, EventLog, LoggedEvent } from "../../../common/event-log.js";
import { parseGlobalId } from "../../../common/global-id.js";
import {
  type Caller,
  mayOwn,
  projectOf,
  type Role,
  requireOwner,
  type TokenAuthority,
} from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { recordRevocation, tokenRevokedKind } from "../../../common/revocations.js";
import { releasedInstance } from "../certificate/certificate.service.js";
import { PersonEntity } from "../person/person.entity.js";
import { ProjectEntity } from "../project/project.entity.js";
import { RegistrationTokenEntity } from "../registration/registration.entity.js";
import { TokenEntity } from "./token.entity.js";

export type TokenRow = InferEntity<typeof TokenEntity>;

export interface NewToken {
  person?: string | null | undefined;
  role?: Role | null | undefined;
  computerReference?: string | null | undefined;
  project?: string | null | undefined;
  expiresInDays?: number | null | undefined;
}

const defaultDays = { person: 90, node: 3650 };
const maxDays = 3650;
const daySeconds = 86_400;
const maxRevokedAtOnce = 1_000;

/** Another subgraph issued a token: its id is the subject, and what it is for is in the payload. */
export const tokenIssuedKind = "TokenIssued";

export class TokenService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #tokens: TokenAuthority;

  constructor(orm: MikroORM, eventLog: EventLog, tokens: TokenAuthority) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#tokens = tokens;
  }

  /** Owners make tokens in their project. The secret leaves here once and is not stored. */
  async createToken(caller: Caller, input: NewToken): Promise<{ row: TokenRow; secret: string }> {
    const project = projectOf(caller, input.project);
    requireOwner(caller, project, "Creating a token");
    const days = input.expiresInDays ?? (input.person ? defaultDays.person : defaultDays.node);
    if (days < 1 || days > maxDays) throw badInput(`A token lives 1 to ${maxDays} days.`, "expiresInDays");
    if ((input.person == null) === (input.computerReference == null)) {
      throw badInput("Give exactly one of `person` and `computerReference`.", "person");
    }
    if (input.person != null && !input.role)
      throw badInput("A person's token has a role: OWNER, USER or VIEWER.", "role");
    if (input.person == null && input.role) throw badInput("A computer's token has no role.", "role");
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      if (!(await em.findOne(ProjectEntity, { name: project })))
        throw notFound(`There is no project ${project}.`, "project");
      const subject = await this.#existingSubject(em, project, input);
      const kind = input.person == null ? "node" : "person";
      const role = input.role ?? null;
      const issued = await this.#tokens.issue({
        kind,
        subject,
        project,
        ...(role ? { role } : {}),
        lifetimeSeconds: days * daySeconds,
      });
      const row = em.create(TokenEntity, {
        id: issued.tokenId,
        kind,
        subject,
        project,
        role,
        issuedAt: new Date(),
        expiresAt: issued.expiresAt,
        revokedAt: null,
      });
      await append({ kind: "TokenCreated", subject: issued.tokenId, project, actor: caller.subject });
      return { row, secret: issued.token };
    });
  }

  /** A computer is known here by the token that it was created with. */
  async #existingSubject(em: EntityManager, project: string, input: NewToken): Promise<string> {
    if (input.person != null) {
      if (!(await em.findOne(PersonEntity, { subject: input.person })))
        throw notFound(`There is no person ${input.person}.`, "person");
      return input.person;
    }
    const subject = input.computerReference ?? "";
    if (!(await em.findOne(TokenEntity, { kind: "node", subject, project }))) {
      throw notFound(`There is no computer ${subject} in the project ${project}.`, "computerReference");
    }
    return subject;
  }

  /** Idempotent. Once it has answered, every door refuses the token within a second. */
  async revokeToken(caller: Caller, id: string): Promise<TokenRow> {
    const parsed = parseGlobalId(id);
    const tokenId = parsed?.type === "Token" ? parsed.naturalKey : id;
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await em.findOne(TokenEntity, { id: tokenId });
      if (!row || !(mayOwn(caller, row.project) || isOwnToken(caller, row)))
        throw notFound("There is no such token.", "id");
      if (!row.revokedAt) await revoke(em, append, caller.subject, row);
      return row;
    });
  }

  /**
   * Takes a person out of a project: its tokens there, and the registration tokens that it made, which let nodes in on its
   * word. At most 1,000 of each at once; again takes the rest. Idempotent.
   */
  async revokeRole(caller: Caller, person: string, named: string | null | undefined): Promise<TokenRow[]> {
    const project = projectOf(caller, named);
    requireOwner(caller, project, "Revoking a role");
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const tokens = { kind: "person" as const, subject: person, project };
      if ((await em.count(TokenEntity, tokens)) === 0)
        throw notFound(`There is no person ${person} in the project ${project}.`, "person");
      const rows = await em.find(TokenEntity, { ...tokens, revokedAt: null }, { limit: maxRevokedAtOnce });
      for (const row of rows) await revoke(em, append, caller.subject, row);
      const made = { createdBy: person, project, revokedAt: null };
      const now = new Date();
      for (const registration of await em.find(RegistrationTokenEntity, made, { limit: maxRevokedAtOnce })) {
        registration.revokedAt = now;
        await append({ kind: "RegistrationTokenRevoked", subject: registration.id, project, actor: caller.subject });
      }
      return rows;
    });
  }

  /** Owners see the project's tokens, others their own. */
  async tokens(caller: Caller, page: Page): Promise<TokenRow[]> {
    const { where, options } = keyset("id", page);
    return this.#orm.em.fork().find(TokenEntity, { $and: [where, visibleTo(caller)] }, options);
  }

  async tokensById(caller: Caller, ids: readonly string[]): Promise<(TokenRow | null)[]> {
    const rows = await this.#orm.em.fork().find(TokenEntity, { $and: [{ id: { $in: [...ids] } }, visibleTo(caller)] });
    return ids.map((id) => rows.find((row) => row.id === id) ?? null);
  }

  /** Consumer: an instance that is gone identifies itself no more. Idempotent. */
  async revokeOfReleasedInstances(em: EntityManager, events: LoggedEvent[], append: Append): Promise<void> {
    const subject = { $in: events.flatMap((event) => releasedInstance(event) ?? []) };
    if (subject.$in.length === 0) return;
    // What was issued in the same page of events is found too.
    await em.flush();
    const rows = await em.find(TokenEntity, { kind: "instance", subject, revokedAt: null });
    for (const row of rows) await revoke(em, append, "master", row);
  }

  /** Consumer: tokens that other services issued in their own transactions are recorded here. Idempotent by the token's id. */
  async recordIssuedTokens(em: EntityManager, events: LoggedEvent[]): Promise<void> {
    for (const event of events) {
      if (event.kind !== tokenIssuedKind) continue;
      const { kind, subject, expiresAt } = event.payload as {
        kind: TokenRow["kind"];
        subject: string;
        expiresAt: string;
      };
      await em.upsert(
        TokenEntity,
        {
          id: event.subject,
          kind,
          subject,
          project: event.project,
          role: null,
          issuedAt: event.at,
          expiresAt: new Date(expiresAt),
          revokedAt: null,
        },
        { onConflictAction: "ignore" },
      );
    }
  }
}

async function revoke(em: EntityManager, append: Append, actor: string, row: TokenRow): Promise<void> {
  row.revokedAt = new Date();
  await recordRevocation(em, row.id, row.expiresAt);
  await append({ kind: tokenRevokedKind, subject: row.id, project: row.project, actor });
}

function visibleTo(caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (mayOwn(caller, caller.project)) return { project: caller.project };
  // A person may have the name of a computer.
  return { project: caller.project, kind: caller.kind, subject: caller.subject };
}

function isOwnToken(caller: Caller, row: TokenRow): boolean {
  return caller.kind !== "administrator" && caller.tokenId === row.id;
}

function badInput(message: string, field: string): AppError {
  return new AppError("BAD_USER_INPUT", message, { details: { path: ["input", field] } });
}

function notFound(message: string, field: string): AppError {
  return new AppError("NOT_FOUND", message, { details: { path: ["input", field] } });
}
