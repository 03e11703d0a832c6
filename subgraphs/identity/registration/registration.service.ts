import { createHash, randomBytes, randomUUID } from "node:crypto";
import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { parseGlobalId } from "../../../common/global-id.js";
import { type Caller, mayOwn, projectOf, requireOwner } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { ProjectEntity } from "../project/project.entity.js";
import { RegistrationEntity, RegistrationTokenEntity } from "./registration.entity.js";

export type RegistrationTokenRow = InferEntity<typeof RegistrationTokenEntity>;
export type RegistrationTokenView = RegistrationTokenRow & { usesLeft: number };

export interface NewRegistrationToken {
  project?: string | null | undefined;
  uses?: number | null | undefined;
  expiresInHours?: number | null | undefined;
}

const maxUses = 10_000;
const maxHours = 24 * 365;

export class RegistrationService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Owners make tokens with which nodes enter their project. The secret leaves here once. */
  async createRegistrationToken(
    caller: Caller,
    input: NewRegistrationToken,
  ): Promise<{ row: RegistrationTokenView; secret: string }> {
    const project = projectOf(caller, input.project);
    requireOwner(caller, project, "Creating a registration token");
    const uses = inRange(input.uses ?? 1, maxUses, "uses");
    const hours = inRange(input.expiresInHours ?? 24, maxHours, "expiresInHours");
    const secret = `reg_${randomBytes(24).toString("base64url")}`;
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      if (!(await em.findOne(ProjectEntity, { name: project }))) {
        throw new AppError("NOT_FOUND", `There is no project ${project}.`, { details: { path: ["input", "project"] } });
      }
      const row = em.create(RegistrationTokenEntity, {
        id: randomUUID(),
        project,
        secretDigest: digest(secret),
        uses,
        createdBy: caller.subject,
        createdAt: new Date(),
        expiresAt: new Date(Date.now() + hours * 3_600_000),
        revokedAt: null,
      });
      await append({ kind: "RegistrationTokenCreated", subject: row.id, project, actor: caller.subject });
      return { row: { ...row, usesLeft: uses }, secret };
    });
  }

  /**
   * Takes one use of a token for a node of this title, or goes on with one that did not end. FORBIDDEN for a secret that
   * is not good (any more); the caller that it returns is the token's maker, as the owner that it was.
   */
  async beginRegistration(
    secret: string,
    title: string,
  ): Promise<{ tokenId: string; owner: Caller; isResumed: boolean }> {
    if (title.trim() === "" || title.length > 200)
      throw new AppError("BAD_USER_INPUT", "A title is 1 to 200 characters.");
    return this.#eventLog.transact(this.#orm, async (em) => {
      const row = await em.findOne(RegistrationTokenEntity, { secretDigest: digest(secret) });
      if (row) await em.execute("select 1 from identity.registration_token where id = ? for update", [row.id]);
      if (!row || row.revokedAt || row.expiresAt <= new Date()) throw notGood();
      const present = await em.findOne(RegistrationEntity, { tokenId: row.id, title });
      if (present?.computerReference != null) throw notGood();
      if (!present) {
        if ((await em.count(RegistrationEntity, { tokenId: row.id })) >= row.uses) throw notGood();
        em.create(RegistrationEntity, { tokenId: row.id, title, computerReference: null });
      }
      const { project, createdBy: subject, expiresAt } = row;
      const owner: Caller = {
        kind: "person",
        subject,
        project,
        role: "OWNER",
        tokenId: row.id,
        expiresAt: expiresAt.getTime(),
      };
      return { tokenId: row.id, owner, isResumed: present !== null };
    });
  }

  async endRegistration(tokenId: string, title: string, owner: Caller, computerReference: string): Promise<void> {
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await em.findOneOrFail(RegistrationEntity, { tokenId, title });
      row.computerReference = computerReference;
      const project = projectOf(owner);
      await append({ kind: "NodeRegistered", subject: computerReference, project, actor: owner.subject, cause: title });
    });
  }

  /** Gives the use back, because the name was not free. */
  async cancelRegistration(tokenId: string, title: string): Promise<void> {
    await this.#orm.em.fork().nativeDelete(RegistrationEntity, { tokenId, title, computerReference: null });
  }

  async revokeRegistrationToken(caller: Caller, id: string): Promise<RegistrationTokenView> {
    const parsed = parseGlobalId(id);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await em.findOne(RegistrationTokenEntity, {
        id: parsed?.type === "RegistrationToken" ? parsed.naturalKey : id,
      });
      if (!row || !mayOwn(caller, row.project)) {
        throw new AppError("NOT_FOUND", "There is no such registration token.", { details: { path: ["input", "id"] } });
      }
      if (!row.revokedAt) {
        row.revokedAt = new Date();
        const { id: subject, project } = row;
        await append({ kind: "RegistrationTokenRevoked", subject, project, actor: caller.subject });
      }
      return withUsesLeft(em, row);
    });
  }

  /** Owners see those of their project, nobody else any. */
  async registrationTokens(caller: Caller, page: Page): Promise<RegistrationTokenView[]> {
    const { where, options } = keyset("id", page);
    const em = this.#orm.em.fork();
    const rows = await em.find(RegistrationTokenEntity, { $and: [where, visibleTo(caller)] }, options);
    return Promise.all(rows.map((row) => withUsesLeft(em, row)));
  }

  async registrationTokensById(caller: Caller, ids: readonly string[]): Promise<(RegistrationTokenView | null)[]> {
    const em = this.#orm.em.fork();
    const rows = await em.find(RegistrationTokenEntity, { $and: [{ id: { $in: [...ids] } }, visibleTo(caller)] });
    const views = await Promise.all(rows.map((row) => withUsesLeft(em, row)));
    return ids.map((id) => views.find((row) => row.id === id) ?? null);
  }
}

async function withUsesLeft(em: EntityManager, row: RegistrationTokenRow): Promise<RegistrationTokenView> {
  const used = await em.count(RegistrationEntity, { tokenId: row.id });
  return { ...row, usesLeft: Math.max(0, row.uses - used) };
}

function visibleTo(caller: Caller) {
  if (caller.kind === "administrator") return {};
  return mayOwn(caller, caller.project) ? { project: caller.project } : { id: { $in: [] as string[] } };
}

function notGood(): AppError {
  return new AppError("FORBIDDEN", "The registration token is not good: unknown, used up, expired or revoked.");
}

function inRange(value: number, most: number, field: string): number {
  if (value >= 1 && value <= most) return value;
  throw new AppError("BAD_USER_INPUT", `\`${field}\` takes 1 to ${most}.`, { details: { path: ["input", field] } });
}

function digest(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}
