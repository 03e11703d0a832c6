import type { EntityManager } from "../../../common/database.js";
import type { Append, LoggedEvent } from "../../../common/event-log.js";
import { ComputerEntity } from "../computer/computer.entity.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import {
  type CandidateComputer,
  type CandidatePartition,
  reasonsAgainstComputer,
  reasonsAgainstFilter,
  reasonsAgainstPartition,
  uniqueByNetwork,
} from "./allocate.js";
import { InstanceEntity } from "./instance.entity.js";
import type { InstanceRow } from "./instance.service.js";
import { placeInstance } from "./place-instance.js";
import { instanceEvent } from "./request-state.js";

const batchSize = 100;

interface Room {
  computer: CandidateComputer;
  partition: CandidatePartition;
  isTaken: boolean;
}

/** Whether an event has to be handed to `retryPending`. */
export function mayMakeRoom(event: LoggedEvent): boolean {
  return requestKinds.includes(event.kind) || changedComputer(event).length + changedPartition(event).length > 0;
}

/**
 * Events that may have made room let pending requests try again, oldest first. All that wait are looked at, in batches,
 * but only those that fit what has become free are tried, so that a long queue costs little and starves nobody.
 */
export async function retryPending(em: EntityManager, events: LoggedEvent[], append: Append): Promise<void> {
  await retryNew(em, events, append);
  const computers = [...new Set(events.flatMap(changedComputer))];
  const partitions = [...new Set(events.flatMap(changedPartition))];
  if (computers.length + partitions.length === 0) return;
  const projects = [...new Set(events.map((event) => event.project))];
  const someWait = await em.count(InstanceEntity, { allocation: "PENDING", project: { $in: projects } });
  if (someWait === 0) return;
  if (events.some(mayMoveNetworks)) await retryUnique(em, projects, append);
  const rooms = await roomsOf(em, computers, partitions);
  // A free partition is for one request, a host for any number of shared ones.
  const isOpen = ({ partition, isTaken }: Room) => partition.state === "FREE" && !isTaken;
  const hasHosts = rooms.some(({ partition }) => partition.host !== null);
  for (let after = 0; hasHosts || rooms.some(isOpen); ) {
    const kinds = [...(hasHosts ? [true] : []), ...(rooms.some(isOpen) ? [false] : [])];
    const waiting = { allocation: "PENDING" as const, project: { $in: projects }, isShared: { $in: kinds } };
    const batch = { orderBy: { number: "asc" }, limit: batchSize } as const;
    const pending = await em.find(InstanceEntity, { ...waiting, number: { $gt: after } }, batch);
    for (const row of pending) {
      after = row.number;
      if (rooms.some((one) => fits(row, one))) await retry(em, append, row, rooms);
      if (!hasHosts && !rooms.some(isOpen)) return;
    }
    if (pending.length < batchSize) return;
  }
}

/** A network that a tree holds no longer is room on every computer of it, also on those that have not changed. */
async function retryUnique(em: EntityManager, projects: readonly string[], append: Append): Promise<void> {
  const waiting = { allocation: "PENDING", project: { $in: projects }, filter: { mode: uniqueByNetwork } } as const;
  for (let after = 0; ; ) {
    const page = { orderBy: { number: "asc" }, limit: batchSize } as const;
    const pending = await em.find(InstanceEntity, { ...waiting, number: { $gt: after } }, page);
    for (const row of pending) {
      after = row.number;
      if (reasonsAgainstFilter(row.filter).length === 0) await tryToPlace(em, append, row);
    }
    if (pending.length < batchSize) return;
  }
}

/**
 * A request that found no room tries once more after its commit: room that was made while it looked was announced before
 * it could be seen waiting.
 */
async function retryNew(em: EntityManager, events: LoggedEvent[], append: Append): Promise<void> {
  const requested = events.filter(({ kind }) => requestKinds.includes(kind)).map(({ subject }) => subject);
  if (requested.length === 0) return;
  const waiting = { reference: { $in: requested }, allocation: "PENDING" as const };
  const rows = await em.find(InstanceEntity, waiting, { orderBy: { number: "asc" } });
  for (const row of rows) if (reasonsAgainstFilter(row.filter).length === 0) await tryToPlace(em, append, row);
}

const deferredKind = "AllocationDeferred";
const requestKinds = ["InstanceRequested", "InstanceChanged", deferredKind];

async function retry(em: EntityManager, append: Append, row: InstanceRow, rooms: Room[]): Promise<void> {
  const placed = await tryToPlace(em, append, row);
  const taken = rooms.find((one) => one.partition.key === placed?.partitionKey);
  if (taken && !row.isShared) taken.isTaken = true;
}

/** Does not wait for who is at work on the row, because computers may be locked here already; it comes back to it. */
async function tryToPlace(em: EntityManager, append: Append, row: InstanceRow): Promise<InstanceRow | null> {
  const free = await em.execute(
    "select 1 from computer.instance where reference = ? and allocation = 'PENDING' for update skip locked",
    [row.reference],
  );
  await em.refresh(row);
  if (row.allocation !== "PENDING") return null;
  if (free.length > 0) return (await placeInstance(em, append, "master", row)).instance;
  await append(instanceEvent(row, "master", deferredKind));
  return null;
}

function fits(row: InstanceRow, { computer, partition, isTaken }: Room): boolean {
  if (isTaken && !row.isShared) return false;
  // Which networks its tree holds depends on more than this room.
  if (row.filter.mode === uniqueByNetwork) return true;
  const request = { ...row, takenNetworks: [] };
  return (
    reasonsAgainstFilter(row.filter).length === 0 &&
    reasonsAgainstComputer(request, computer).length === 0 &&
    reasonsAgainstPartition(request, partition).length === 0
  );
}

/** A computer all of whose partitions may fit what they did not fit before. */
function changedComputer({ kind, subject }: LoggedEvent): string[] {
  return ["ComputerFormatted", "ComputerScopeChanged", "ComputerAttributesChanged"].includes(kind) ? [subject] : [];
}

/** A computer may be in another network, or a partition of a tree gone from it. */
function mayMoveNetworks({ kind }: LoggedEvent): boolean {
  return kind === "ComputerFormatted" || kind === "ComputerAttributesChanged";
}

/** A partition that was freed, or whose instance may have become a host that a shared instance waits for. */
function changedPartition({ kind, subject, payload }: LoggedEvent): string[] {
  if (kind === "PartitionStateChanged" && (payload.to === "FREE" || payload.to === "ALLOCATED")) return [subject];
  const changed = kind === "InstanceRequestChanged" || kind === "InstanceChanged";
  return changed && typeof payload.partition === "string" ? [payload.partition] : [];
}

async function roomsOf(em: EntityManager, references: readonly string[], keys: readonly string[]): Promise<Room[]> {
  const partitions = await em.find(PartitionEntity, {
    $or: [{ computerReference: { $in: [...references] } }, { key: { $in: [...keys] } }],
  });
  const computers = new Map(
    (
      await em.find(ComputerEntity, {
        reference: { $in: [...new Set(partitions.map((partition) => partition.computerReference))] },
      })
    ).map((row) => [row.reference, row]),
  );
  const hosts = new Map(
    (
      await em.find(InstanceEntity, {
        reference: { $in: partitions.flatMap((partition) => partition.instanceReference ?? []) },
      })
    ).map((row) => [row.reference, row]),
  );
  return partitions.flatMap((partition): Room[] => {
    const computer = computers.get(partition.computerReference);
    const host = hosts.get(partition.instanceReference ?? "") ?? null;
    const mayTake = partition.state === "FREE" || host !== null;
    return computer && mayTake ? [{ computer, partition: { ...partition, host }, isTaken: false }] : [];
  });
}
