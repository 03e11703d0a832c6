import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append } from "../../../common/event-log.js";
import { partitionStateChanged } from "../partition/partition.service.js";
import { nextPartitionState } from "../partition/partition.state.js";
import { raisePartitions } from "../revision.js";
import { reasonsAgainstFilter } from "./allocate.js";
import { summarise } from "./explain-allocation.js";
import { allocationRequestOf, findRoom } from "./find-room.js";
import { InstanceEntity } from "./instance.entity.js";
import type { InstanceRow } from "./instance.service.js";
import { mayAllocationBecome } from "./instance.state.js";
import { raiseInstances } from "./lock-instance.js";
import { instanceEvent } from "./request-state.js";

/** Gives a pending instance a free partition, or a shared one its host, or writes down why there is none. */
export async function placeInstance(em: EntityManager, append: Append, actor: string, row: InstanceRow): Promise<void> {
  const request = await allocationRequestOf(em, row);
  const partition = reasonsAgainstFilter(row.filter).length === 0 ? await findRoom(em, request) : null;
  if (partition === null) {
    row.pendingReasons = await summarise(em, request);
    await em.flush();
    return;
  }
  if (!mayAllocationBecome(row.allocation, "ALLOCATED")) throw notFree(partition.key);
  row.allocation = "ALLOCATED";
  row.partitionKey = partition.key;
  row.pendingReasons = [];
  if (row.isShared) {
    await em.flush();
    await raiseInstances(em, [row]);
    await append({
      ...instanceEvent(row, actor, "SharedInstanceAllocated"),
      payload: { partition: partition.key, host: partition.instanceReference ?? null },
    });
    return;
  }
  const from = partition.state;
  const to = nextPartitionState(from, "allocate");
  if (to === null) throw notFree(partition.key);
  partition.state = to;
  partition.stateSince = new Date();
  partition.message = null;
  partition.instanceReference = row.reference;
  partition.owner = row.owner;
  await em.flush();
  await raisePartitions(em, [partition.key]);
  const subject = { key: partition.key, project: row.project, owner: row.owner, instance: row.reference };
  await append(partitionStateChanged(subject, from, to, actor, null));
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
