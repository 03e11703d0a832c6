import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../common/errors.js";
import type { EventLog } from "../../common/event-log.js";
import { type Caller, isMember, projectOf, requireOwner } from "../../common/identity.js";
import { Fresh } from "../fresh.js";
import { CachePolicyEntity } from "./cache-policy.entity.js";

export type CachePolicyRow = InferEntity<typeof CachePolicyEntity>;
export type UntrustedEntriesRule = "MARK" | "REFUSE";

export type CachePolicyChange = { [Key in keyof Omit<CachePolicyRow, "project">]?: CachePolicyRow[Key] | undefined } & {
  project?: string | null | undefined;
};

const bounds: { [Key in keyof CachePolicyChange]: [least: number, most: number] } = {
  quotaBytes: [0, Number.MAX_SAFE_INTEGER],
  maxBlobBytes: [0, Number.MAX_SAFE_INTEGER],
  uploadsPerMinute: [1, 1_000_000],
  maxAgeDays: [1, 36_500],
  maxUnreadDays: [1, 36_500],
  newestPerKey: [1, 100],
};

export class CachePolicyService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #fresh = new Fresh<CachePolicyRow>((project) => this.#read(project));

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** As the door needs it with every upload: at most a second old. */
  policyOf(project: string): Promise<CachePolicyRow> {
    return this.#fresh.get(project);
  }

  /** Null where the caller is no member of the project. */
  async policy(caller: Caller, project: string): Promise<CachePolicyRow | null> {
    return isMember(caller, project) ? this.#read(project) : null;
  }

  /** Owners only. What is not given stays; null takes a limit or rule away. */
  async setPolicy(caller: Caller, change: CachePolicyChange): Promise<CachePolicyRow> {
    const { project: named, ...values } = change;
    const project = projectOf(caller, named);
    requireOwner(caller, project, "Setting the cache policy");
    for (const [name, [least, most]] of Object.entries(bounds)) {
      const value = values[name as keyof typeof values];
      if (typeof value === "number" && !(Number.isSafeInteger(value) && value >= least && value <= most)) {
        throw new AppError("BAD_USER_INPUT", `${name} takes a whole number from ${least} to ${most}.`, {
          details: { path: ["input", name] },
        });
      }
    }
    // A rule for untrusted entries there is always: null changes nothing.
    if (values.untrustedEntries == null) delete values.untrustedEntries;
    const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
    const row = await this.#eventLog.transact(this.#orm, async (em, append) => {
      const present = await em.findOne(CachePolicyEntity, { project });
      const changed = present ?? em.create(CachePolicyEntity, withoutLimits(project));
      em.assign(changed, given);
      await em.flush();
      await append({ kind: "CachePolicySet", subject: project, project, actor: caller.subject, payload: given });
      return changed;
    });
    this.#fresh.forget(project);
    return row;
  }

  async #read(project: string): Promise<CachePolicyRow> {
    const row = await this.#orm.em.fork().findOne(CachePolicyEntity, { project });
    return row ?? withoutLimits(project);
  }
}

function withoutLimits(project: string): CachePolicyRow {
  return {
    project,
    untrustedEntries: "MARK",
    quotaBytes: null,
    maxBlobBytes: null,
    uploadsPerMinute: null,
    maxAgeDays: null,
    maxUnreadDays: null,
    newestPerKey: null,
  } as CachePolicyRow;
}
