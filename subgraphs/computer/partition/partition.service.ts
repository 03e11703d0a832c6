import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append, EventLog } from "../../../common/event-log.js";
import type { Caller } from "../../../common/identity.js";
import { pagePerParent } from "../../../common/page-per-parent.js";
import type { Page } from "../../../common/pagination.js";
import { InstanceEntity } from "../instance/instance.entity.js";
import type { ReportedState } from "../instance/instance.state.js";
import { lockInstanceIn } from "../instance/lock-instance.js";
import { leaveEndedHost } from "../instance/place-instance.js";
import { computerOfPartition, lockComputer, raiseComputer, raisePartitions } from "../revision.js";
import { speaksForComputer, visiblePartitions } from "../visibility.js";
import { PartitionEntity } from "./partition.entity.js";
import { nextPartitionState, type PartitionTrigger } from "./partition.state.js";

export type PartitionRow = InferEntity<typeof PartitionEntity>;

/** What a node may say of an instance that it runs. */
export type PartitionReport = "started" | "stopped" | "destroyed" | "error";

const triggers: Record<PartitionReport, PartitionTrigger> = {
  started: "reportStarted",
  stopped: "reportStopped",
  destroyed: "free",
  error: "reportError",
};
const reported: Record<PartitionReport, ReportedState> = {
  started: "STARTED",
  stopped: "STOPPED",
  destroyed: "DESTROYED",
  error: "ERROR",
};

/** Monitoring has accepted a bang: what it is about has to be processed again. */
export const bangKind = "BangAccepted";

const maxMessageLength = 5_000;

export class PartitionService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
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
    report: PartitionReport,
    text: string | null = null,
  ): Promise<void> {
    const message = text === null ? null : text.slice(0, maxMessageLength);
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const instance = await lockInstanceIn(em, key);
      const speaks =
        speaksForComputer(caller, computerOfPartition(key)) || speaksForInstance(caller, instance?.reference);
      if (!speaks || !(await lockComputer(em, computerOfPartition(key)))) throw noPartition(key);
      const partition = await em.findOne(PartitionEntity, { key });
      if (!partition) throw noPartition(key);
      if (!instance) return;
      if (
        report === "destroyed" &&
        (instance.requestedState !== "DESTROYED" || (await hasLiveChildren(em, instance.reference)))
      )
        return;
      const from = partition.state;
      const to = nextPartitionState(from, triggers[report]);
      if (to === null) return;
      // The node reads its own last report as `_access_status`, so it has to see the new one at its next poll.
      if (from !== to || partition.message !== message) await raiseComputer(em, partition.computerReference);
      partition.message = message;
      instance.reportedState = reported[report];
      if (from !== to) {
        partition.state = to;
        partition.stateSince = new Date();
      }
      if (to === "FREE") {
        instance.allocation = "RELEASED";
        instance.partitionKey = null;
        partition.instanceReference = null;
        partition.owner = null;
        await leaveEndedHost(em, key);
        if (!partition.isListed) em.remove(partition);
      }
      const subject = { key, project: partition.project, owner: instance.owner, instance: instance.reference };
      if (from === to) await append(partitionReported(subject, to, caller.subject, message));
      else await append(partitionStateChanged(subject, from, to, caller.subject, message));
      await em.flush();
      if (to === "FREE") await raisePartitions(em, [key]);
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

function partitionReported(
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
