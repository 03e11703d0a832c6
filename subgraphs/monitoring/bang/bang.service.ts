import { randomUUID } from "node:crypto";
import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { type Caller, mayOwn } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { textArray } from "../../../common/session.js";
import { computerOf, type HealthService, maySee, maySeeComputer } from "../health/health.service.js";
import { BangEntity } from "./bang.entity.js";

export type BangRow = InferEntity<typeof BangEntity>;

const maxMessageLength = 5_000;

/** A bang asks for everything of a tree, or of a computer, to be processed again. The computer subgraph acts on `BangAccepted`. */
export class BangService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #health: HealthService;

  constructor(orm: MikroORM, eventLog: EventLog, health: HealthService) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#health = health;
  }

  /** A person's bang, by the instance's reference. NOT_FOUND when the caller cannot see it or it is nowhere. */
  async bangInstance(caller: Caller, reference: string, message: string): Promise<BangRow> {
    const key = await this.#health.partitionOfInstance(this.#orm.em.fork(), reference);
    const notFound = new AppError("NOT_FOUND", `There is no instance ${reference.slice(0, 80)} in a partition.`, {
      details: { path: ["input", "reference"] },
    });
    if (key === null) throw notFound;
    return this.#bangPartition(caller, key, message, reference, notFound);
  }

  /** A node's bang, by the partition that it is about. */
  async bangPartition(caller: Caller, key: string, message: string): Promise<BangRow> {
    return this.#bangPartition(
      caller,
      key,
      message,
      null,
      new AppError("NOT_FOUND", `There is no partition ${key.slice(0, 120)}.`),
    );
  }

  async #bangPartition(
    caller: Caller,
    key: string,
    message: string,
    instance: string | null,
    notFound: AppError,
  ): Promise<BangRow> {
    const text = checkMessage(message);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const partition = (await this.#health.currentHealth(em, [key])).get(key);
      if (!partition || !maySee(caller, partition)) throw notFound;
      if (instance !== null && partition.instanceReference !== instance) throw notFound;
      if (partition.instanceReference === null)
        throw new AppError("STATE_CONFLICT", `${key} holds no instance to bang.`);
      const isOwn =
        caller.kind === "node" ||
        caller.kind === "instance" ||
        (caller.kind === "person" && partition.owner === caller.subject);
      if (!mayOwn(caller, partition.project) && !(isOwn && !isViewer(caller))) {
        throw new AppError("FORBIDDEN", "Banging an instance takes the role OWNER, or USER for one's own.");
      }
      const row = await insertBang(em, {
        scope: "INSTANCE",
        project: partition.project,
        computerReference: computerOf(key),
        partitionKey: key,
        instanceReference: partition.instanceReference,
        owner: partition.owner,
        message: text,
        actor: caller.subject,
      });
      await append(bangAccepted(row, key));
      return row;
    });
  }

  /** All that a computer runs. Owners and the node itself. */
  async bangComputer(caller: Caller, reference: string, message: string): Promise<BangRow> {
    const text = checkMessage(message);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const computer = (await this.#health.currentComputers(em, [reference])).get(reference);
      if (!computer || !maySeeComputer(caller, computer)) {
        throw new AppError("NOT_FOUND", `There is no computer ${reference.slice(0, 80)}.`, {
          details: { path: ["input", "reference"] },
        });
      }
      if (!mayOwn(caller, computer.project) && caller.kind !== "node") {
        throw new AppError("FORBIDDEN", "Banging a computer takes the role OWNER in its project.");
      }
      const row = await insertBang(em, {
        scope: "COMPUTER",
        project: computer.project,
        computerReference: reference,
        partitionKey: null,
        instanceReference: null,
        owner: null,
        message: text,
        actor: caller.subject,
      });
      await append(bangAccepted(row, reference));
      return row;
    });
  }

  /** The latest bang of each partition for the instance that is in it now, which the given references name. */
  async lastBangs(pairs: readonly { key: string; instanceReference: string }[]): Promise<(BangRow | null)[]> {
    const em = this.#orm.em.fork();
    const latest = await em.execute<{ id: string }[]>(
      `select distinct on (partition_key, instance_reference) id from monitoring.bang
       where scope = 'INSTANCE' and (partition_key, instance_reference) in (${pairs.map(() => "(?, ?)").join(", ")})
       order by partition_key, instance_reference, sequence desc`,
      pairs.flatMap(({ key, instanceReference }) => [key, instanceReference]),
    );
    const rows = await em.find(BangEntity, { id: { $in: latest.map(({ id }) => id) } });
    return pairs.map(
      (pair) =>
        rows.find((row) => row.partitionKey === pair.key && row.instanceReference === pair.instanceReference) ?? null,
    );
  }

  async lastComputerBangs(caller: Caller, references: readonly string[]): Promise<(BangRow | null)[]> {
    const em = this.#orm.em.fork();
    const latest = await em.execute<{ id: string }[]>(
      `select distinct on (computer_reference) id from monitoring.bang
       where scope = 'COMPUTER' and computer_reference = any(?::text[])
       order by computer_reference, sequence desc`,
      [textArray(references)],
    );
    const rows = await em.find(BangEntity, {
      $and: [{ id: { $in: latest.map(({ id }) => id) } }, visibleBangs(caller)],
    });
    return references.map((reference) => rows.find((row) => row.computerReference === reference) ?? null);
  }

  async bangs(caller: Caller, page: Page): Promise<BangRow[]> {
    const { where, options } = keyset("id", page);
    return this.#orm.em.fork().find(BangEntity, { $and: [where, visibleBangs(caller)] }, options);
  }

  async bangsById(caller: Caller, ids: readonly string[]): Promise<(BangRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(BangEntity, { $and: [{ id: { $in: [...ids] } }, visibleBangs(caller)] });
    return ids.map((id) => rows.find((row) => row.id === id) ?? null);
  }
}

function visibleBangs(caller: Caller) {
  if (caller.kind === "administrator") return {};
  const { project, subject } = caller;
  if (caller.kind === "node") return { project, computerReference: subject };
  if (caller.kind === "instance") return { project, instanceReference: subject };
  return caller.role === "USER" ? { project, $or: [{ owner: subject }, { scope: "COMPUTER" as const }] } : { project };
}

function isViewer(caller: Caller): boolean {
  return caller.kind === "person" && caller.role === "VIEWER";
}

/** Ids sort by time, so that a page of bangs is in their order. */
async function insertBang(em: EntityManager, bang: Omit<BangRow, "id" | "at" | "sequence">): Promise<BangRow> {
  const [number] = await em.execute<{ sequence: string }[]>("select nextval('monitoring.bang_number') as sequence");
  const sequence = Number(number?.sequence);
  const id = `${String(sequence).padStart(12, "0")}-${randomUUID().slice(0, 8)}`;
  const row = em.create(BangEntity, { ...bang, id, at: new Date(), sequence });
  await em.flush();
  return row;
}

function bangAccepted(row: BangRow, subject: string) {
  return {
    kind: "BangAccepted",
    subject,
    project: row.project,
    actor: row.actor,
    cause: row.message,
    payload: {
      bang: row.id,
      scope: row.scope,
      computer: row.computerReference,
      partition: row.partitionKey ?? null,
      instance: row.instanceReference ?? null,
    },
  };
}

function checkMessage(message: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is removed here.
  const text = message.replaceAll(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g, "");
  if (text.trim() === "" || text.length > maxMessageLength) {
    throw new AppError("BAD_USER_INPUT", `A bang's message has 1 to ${maxMessageLength} characters.`, {
      details: { path: ["input", "message"] },
    });
  }
  return text;
}
