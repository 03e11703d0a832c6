import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { Batches } from "../../../common/batches.js";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append, EventLog } from "../../../common/event-log.js";
import type { Caller } from "../../../common/identity.js";
import { pagePerParent } from "../../../common/page-per-parent.js";
import type { Page } from "../../../common/pagination.js";
import { InstanceEntity } from "../instance/instance.entity.js";
import { lockInstanceIn } from "../instance/lock-instance.js";
import { leaveEndedHost } from "../instance/place-instance.js";
import { computerOfPartition, lockComputer, raisePartitions } from "../revision.js";
import { speaksForComputer, visiblePartitions } from "../visibility.js";
import { PartitionEntity } from "./partition.entity.js";
import { nextPartitionState } from "./partition.state.js";
import { type PartitionReport, reportPartitions } from "./report-partitions.js";

export type PartitionRow = InferEntity<typeof PartitionEntity>;

/** Monitoring has accepted a bang: what it is about has to be processed again. */
export const bangKind = "BangAccepted";

const maxMessageLength = 5_000;

export class PartitionService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #reports: Batches<PartitionReport, null>;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#reports = new Batches((computer, items) =>
      eventLog.transactSql(orm, (session, append) => reportPartitions(session, append, computer, items)),
    );
  }

  /** One page of partitions for each of the computers, in one go. */
  async partitionsOfComputers(caller: Caller, references: readonly string[], page: Page): Promise<PartitionRow[][]> {
    return pagePerParent(this.#orm.em.fork(), {
      entity: PartitionEntity,
      parents: references,
      parentSql: '"row"."computer_reference"',
      parentOf: (row) => row.computerReference,
      key: "key",
      where: { $and: [{ computerReference: { $in: [...references] } }, visiblePartitions(caller)] },
      page,
    });
  }

  async partitionsByKey(caller: Caller, keys: readonly string[]): Promise<(PartitionRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(PartitionEntity, { $and: [{ key: { $in: [...keys] } }, visiblePartitions(caller)] });
    const byKey = new Map(rows.map((row) => [row.key, row]));
    return keys.map((key) => byKey.get(key) ?? null);
  }

  /**
   * A node's report about what it runs in a partition. NOT_FOUND where the partition does not exist or the caller does not
   * speak for it; a report that comes too late (the partition was freed meanwhile) or too early (destroyed, which nobody
   * asked for) changes nothing and is no error: the node could do nothing about it.
   */
  async reportPartition(
    caller: Caller,
    key: string,
    state: PartitionReport["state"] | "destroyed",
    text: string | null = null,
  ): Promise<void> {
    if (state === "destroyed") return this.#free(caller, key);
    const message = text === null ? null : text.slice(0, maxMessageLength);
    await this.#reports.submit(computerOfPartition(key), { caller, key, state, message });
  }

  /** Its node has destroyed what was in a partition. */
  async #free(caller: Caller, key: string): Promise<void> {
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const instance = await lockInstanceIn(em, key);
      const speaks =
        speaksForComputer(caller, computerOfPartition(key)) || speaksForInstance(caller, instance?.reference);
      if (!speaks || !(await lockComputer(em, computerOfPartition(key)))) throw noPartition(key);
      const partition = await em.findOne(PartitionEntity, { key });
      if (!partition) throw noPartition(key);
      if (instance?.requestedState !== "DESTROYED" || (await hasLiveChildren(em, instance.reference))) return;
      const from = partition.state;
      const to = nextPartitionState(from, "free");
      if (to === null) return;
      const subject = { key, project: partition.project, owner: instance.owner, instance: instance.reference };
      partition.message = null;
      partition.state = to;
      partition.stateSince = new Date();
      partition.instanceReference = null;
      partition.owner = null;
      instance.reportedState = "DESTROYED";
      instance.allocation = "RELEASED";
      instance.partitionKey = null;
      await leaveEndedHost(em, key);
      if (!partition.isListed) em.remove(partition);
      await em.flush();
      await raisePartitions(em, [key]);
      await append(partitionStateChanged(subject, from, to, caller.subject, null));
    });
  }

  /** Raises every partition of the trees that a bang is about, once per event; the consumer's position says which were done. */
  async applyBang(em: EntityManager, bang: { computer: string; partition: string | null }): Promise<void> {
    const banged = bang.partition
      ? await em.find(InstanceEntity, { partitionKey: bang.partition, allocation: "ALLOCATED", isShared: false })
      : await em.find(InstanceEntity, {
          partitionKey: { $gte: `${bang.computer}/`, $lt: `${bang.computer}0` },
          allocation: "ALLOCATED",
          isShared: false,
        });
    if (banged.length === 0) return;
    const roots = [...new Set(banged.map((instance) => instance.rootReference))];
    const members = await em.find(
      InstanceEntity,
      { rootReference: { $in: roots }, allocation: "ALLOCATED" },
      { orderBy: { reference: "asc" } },
    );
    await raisePartitions(em, [...new Set(members.flatMap((member) => member.partitionKey ?? []))]);
  }
}

export interface PartitionSubject {
  key: string;
  project: string;
  owner: string | null;
  instance: string | null;
}

export function partitionStateChanged(
  subject: PartitionSubject,
  from: string,
  to: string,
  actor: string,
  cause: string | null,
): Parameters<Append>[number] {
  const { key, project, owner, instance } = subject;
  return { kind: "PartitionStateChanged", subject: key, project, actor, cause, payload: { from, to, instance, owner } };
}

export function partitionReported(
  subject: PartitionSubject,
  state: string,
  actor: string,
  cause: string | null,
): Parameters<Append>[number] {
  const { key, project, owner, instance } = subject;
  return { kind: "PartitionReported", subject: key, project, actor, cause, payload: { state, instance, owner } };
}

/** A parent is freed after its children: until then its node's report is answered and not yet acted upon. */
async function hasLiveChildren(em: EntityManager, reference: string): Promise<boolean> {
  return (await em.count(InstanceEntity, { parentReference: reference, allocation: { $ne: "RELEASED" } })) > 0;
}

/** The node of the partition's computer, the instance that is in it, or the administrator. */
export async function speaksForPartition(em: EntityManager, caller: Caller, key: string): Promise<boolean> {
  if (speaksForComputer(caller, computerOfPartition(key))) return true;
  if (caller.kind !== "instance") return false;
  return (await em.count(PartitionEntity, { key, instanceReference: caller.subject })) > 0;
}

export function speaksForInstance(caller: Caller, reference: string | undefined): boolean {
  return caller.kind === "instance" && reference !== undefined && caller.subject === reference;
}

export function noPartition(key: string): AppError {
  return new AppError("NOT_FOUND", `There is no partition ${key.slice(0, 120)}.`);
}
