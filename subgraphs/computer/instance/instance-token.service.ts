import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { type Caller, type IssuedToken, mayOwn, type TokenAuthority } from "../../../common/identity.js";
import { visibleInstances } from "../visibility.js";
import { InstanceEntity } from "./instance.entity.js";
import type { InstanceRow } from "./instance.service.js";
import { lockInstances } from "./lock-instance.js";

const defaultDays = 365;
const maxDays = 3650;
const daySeconds = 86_400;

export class InstanceTokenService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #tokens: TokenAuthority;

  constructor(orm: MikroORM, eventLog: EventLog, tokens: TokenAuthority) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#tokens = tokens;
  }

  /**
   * A token by which an instance calls the doors that take no client certificates. Owners, and users for their own. It leaves
   * here once: identity learns of it by the event, and revokes it when the instance is gone.
   */
  async createInstanceToken(
    caller: Caller,
    reference: string,
    days: number | null | undefined,
  ): Promise<{ row: InstanceRow; issued: IssuedToken }> {
    const lifetimeDays = days ?? defaultDays;
    if (lifetimeDays < 1 || lifetimeDays > maxDays) {
      throw new AppError("BAD_USER_INPUT", `A token lives 1 to ${maxDays} days.`, {
        details: { path: ["input", "expiresInDays"] },
      });
    }
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      // Its end takes the same lock: a token is made before it, and revoked by it, or not at all.
      await lockInstances(em, [reference]);
      const row = await em.findOne(InstanceEntity, { $and: [{ reference }, visibleInstances(caller)] });
      if (!row) {
        throw new AppError("NOT_FOUND", `There is no instance ${reference.slice(0, 80)}.`, {
          details: { path: ["input", "reference"] },
        });
      }
      const isOwn = caller.kind === "person" && caller.role === "USER" && row.owner === caller.subject;
      if (!mayOwn(caller, row.project) && !isOwn)
        throw new AppError("FORBIDDEN", "An instance's token takes the role OWNER, or USER for one's own.");
      if (row.allocation === "RELEASED" || row.requestedState === "DESTROYED")
        throw new AppError("STATE_CONFLICT", `${row.title} is being destroyed, or is gone.`);
      const { project } = row;
      const claims = { kind: "instance" as const, subject: reference, project };
      const issued = await this.#tokens.issue({ ...claims, lifetimeSeconds: lifetimeDays * daySeconds });
      await append({
        kind: "TokenIssued",
        subject: issued.tokenId,
        project,
        actor: caller.subject,
        payload: { kind: "instance", subject: reference, expiresAt: issued.expiresAt.toISOString() },
      });
      return { row, issued };
    });
  }
}
