import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append, NewEvent } from "../../../common/event-log.js";
import { type Sql, textArray } from "../../../common/session.js";
import type { PartitionRow } from "../partition/partition.service.js";
import { partitionStateChanged } from "../partition/partition.service.js";
import { nextPartitionState } from "../partition/partition.state.js";
import { nextRevision, raisePartitions } from "../revision.js";
import { partitionRows } from "../rows.js";
import { reasonsAgainstFilter } from "./allocate.js";
import { summarise } from "./explain-allocation.js";
import { allocationRequestOf, findRoom } from "./find-room.js";
import { InstanceEntity } from "./instance.entity.js";
import type { InstanceRow } from "./instance.service.js";
import { mayAllocationBecome } from "./instance.state.js";
import { raiseInstances } from "./lock-instance.js";
import { instanceEvent } from "./request-state.js";

/** An instance with its place: its own partition, or its host's if it is shared. */
export interface Placement {
  instance: InstanceRow;
  /** Null while it waits for one. */
  partition: PartitionRow | null;
}

/** Gives a pending instance a free partition, or a shared one its host, or writes down why there is none. */
export async function placeInstance(
  em: EntityManager,
  append: Append,
  actor: string,
  row: InstanceRow,
): Promise<Placement> {
  const request = await allocationRequestOf(em, row);
  const partition = reasonsAgainstFilter(row.filter).length === 0 ? await findRoom(em, request) : null;
  if (partition === null) {
    const pendingReasons = await summarise(em, request);
    await em.execute("update computer.instance set pending_reasons = ?::jsonb where reference = ?", [
      JSON.stringify(pendingReasons),
      row.reference,
    ]);
    return { instance: { ...row, pendingReasons }, partition: null };
  }
  if (!mayAllocationBecome(row.allocation, "ALLOCATED")) throw notFree(partition.key);
  const instance = {
    ...row,
    allocation: "ALLOCATED" as const,
    partitionKey: partition.key,
    pendingReasons: [],
  };
  if (row.isShared) return { instance, partition: await enterHost(em, append, actor, instance, partition) };
  if (nextPartitionState(partition.state, "allocate") !== "ALLOCATED") throw notFree(partition.key);
  const [taken] = await takePartitions(em, [{ instance, partition }]);
  await append(allocated(instance, partition, actor));
  return { instance, partition: taken ?? null };
}

/**
 * Puts instances into free partitions of one computer. It is locked, so what was read of them still holds. One statement,
 * for all that wait for the lock.
 */
export async function takePartitions(
  sql: Sql,
  pairs: readonly { instance: InstanceRow; partition: PartitionRow }[],
): Promise<PartitionRow[]> {
  const rooms = pairs.map(({ instance, partition }) => ({
    key: partition.key,
    instance: instance.reference,
    owner: instance.owner,
  }));
  const taken = await sql.execute<Record<string, unknown>[]>(
    `with room as (select * from jsonb_to_recordset(?::jsonb) as r (key text, instance text, owner text)),
       raised as (update computer.computer set revision = ${nextRevision} where reference = ? returning revision),
       taken as (
         update computer.partition p set state = 'ALLOCATED', state_since = now(), message = null,
           instance_reference = room.instance, owner = room.owner, revision = greatest(raised.revision, p.revision + 1)
         from raised, room where p.key = room.key and p.key = any(?::text[]) returning p.*),
       placed as (
         update computer.instance i set allocation = 'ALLOCATED', partition_key = room.key, pending_reasons = '[]'
         from room where i.reference = room.instance and i.reference = any(?::text[]))
     select ${partitionRows.columns(sql, "taken")} from taken order by length(key), key`,
    [
      JSON.stringify(rooms),
      pairs[0]?.partition.computerReference ?? "",
      textArray(rooms.map(({ key }) => key)),
      textArray(rooms.map(({ instance }) => instance)),
    ],
  );
  return taken.map((row) => partitionRows.read(sql, "taken", row));
}

/** The event of an instance that got its partition. */
export function allocated(instance: InstanceRow, partition: PartitionRow, actor: string): NewEvent {
  const subject = {
    key: partition.key,
    project: instance.project,
    owner: instance.owner,
    instance: instance.reference,
  };
  return partitionStateChanged(subject, partition.state, "ALLOCATED", actor, null);
}

async function enterHost(
  em: EntityManager,
  append: Append,
  actor: string,
  row: InstanceRow,
  host: PartitionRow,
): Promise<PartitionRow> {
  await em.execute(
    "update computer.instance set allocation = 'ALLOCATED', partition_key = ?, pending_reasons = '[]' where reference = ?",
    [host.key, row.reference],
  );
  await raiseInstances(em, [row]);
  await append({
    ...instanceEvent(row, actor, "SharedInstanceAllocated"),
    payload: { partition: host.key, host: host.instanceReference ?? null },
  });
  return host;
}

/** Takes a shared instance out of its host: it is pending again, and looks for another by the next try. */
export async function leaveHost(em: EntityManager, row: InstanceRow): Promise<void> {
  if (!row.isShared || row.partitionKey == null || !mayAllocationBecome(row.allocation, "PENDING")) return;
  const key = row.partitionKey;
  row.allocation = "PENDING";
  row.partitionKey = null;
  row.reportedState = "NONE";
  await em.flush();
  await raisePartitions(em, [key]);
}

/** What a host that ends leaves behind: its shared instances wait for another one. Called under its computer's lock. */
export async function leaveEndedHost(em: EntityManager, partitionKey: string): Promise<void> {
  const shared = await em.find(InstanceEntity, { partitionKey, isShared: true, allocation: "ALLOCATED" });
  for (const row of shared) {
    row.allocation = "PENDING";
    row.partitionKey = null;
    row.reportedState = "NONE";
    row.pendingReasons = [{ constraint: "host", message: `Its host in ${partitionKey} was destroyed.` }];
  }
}

function notFree(key: string): AppError {
  return new AppError("INTERNAL", `${key} is not free.`);
}
