import type { EntityManager } from "../../../common/database.js";
import type { Append, LoggedEvent } from "../../../common/event-log.js";
import { ComputerEntity } from "../computer/computer.entity.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import { computerOfPartition } from "../revision.js";
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

const batchSize = 500;

interface Room {
  computer: CandidateComputer;
  partition: CandidatePartition;
  isTaken: boolean;
}

/**
 * Events that may have made room let pending requests try again, oldest first. All that wait are looked at, in batches,
 * but only those that fit what has become free are tried, so that a long queue costs little and starves nobody.
 */
export async function retryPending(em: EntityManager, events: LoggedEvent[], append: Append): Promise<void> {
  await retryNew(em, events, append);
  const computers = [...new Set(events.flatMap(computerWithRoom))];
  const hosts = [...new Set(events.flatMap(partitionWithHost))];
  if (computers.length + hosts.length === 0) return;
  const someWait = await em.count(InstanceEntity, {
    allocation: "PENDING",
    project: { $in: [...new Set(events.map((event) => event.project))] },
  });
  if (someWait === 0) return;
  const rooms = await roomsOf(em, computers, hosts);
  if (rooms.length === 0) return;
  const projects = [...new Set(rooms.map((room) => room.computer.project))];
  for (let after = 0n; ; ) {
    const pending = await em.execute<{ reference: string; number: string }[]>(
      `select reference, number from computer.instance
       where allocation = 'PENDING' and project in (${projects.map(() => "?").join(", ")}) and number > ?
       order by number limit ${batchSize}`,
      [...projects, after],
    );
    for (const { reference, number } of pending) {
      after = BigInt(number);
      await retry(em, append, reference, rooms);
    }
    if (pending.length < batchSize || rooms.every((room) => room.isTaken)) return;
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

async function retry(em: EntityManager, append: Append, reference: string, rooms: Room[]): Promise<void> {
  const row = await em.findOne(InstanceEntity, { reference });
  if (!row || !rooms.some((one) => fits(row, one))) return;
  await tryToPlace(em, append, row);
  const taken = rooms.find((one) => one.partition.key === row.partitionKey);
  if (taken && !row.isShared) taken.isTaken = true;
}

/** Does not wait for who is at work on the row, because computers may be locked here already; it comes back to it. */
async function tryToPlace(em: EntityManager, append: Append, row: InstanceRow): Promise<void> {
  const free = await em.execute(
    "select 1 from computer.instance where reference = ? and allocation = 'PENDING' for update skip locked",
    [row.reference],
  );
  await em.refresh(row);
  if (row.allocation !== "PENDING") return;
  if (free.length > 0) await placeInstance(em, append, "master", row);
  else await append(instanceEvent(row, "master", deferredKind));
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

/** The computer on which an event may have made room. */
function computerWithRoom({ kind, subject, payload }: LoggedEvent): string[] {
  if (kind === "PartitionStateChanged" && payload.to === "FREE") return [computerOfPartition(subject)];
  return ["ComputerFormatted", "ComputerScopeChanged", "ComputerAttributesChanged"].includes(kind) ? [subject] : [];
}

/** The partition whose instance may have become a host that a shared instance waits for. */
function partitionWithHost({ kind, subject, payload }: LoggedEvent): string[] {
  if (kind === "PartitionStateChanged" && payload.to === "ALLOCATED") return [subject];
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
    return computer ? [{ computer, partition: { ...partition, host }, isTaken: false }] : [];
  });
}
