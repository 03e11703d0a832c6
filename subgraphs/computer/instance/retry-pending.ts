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

async function retry(em: EntityManager, append: Append, reference: string, rooms: Room[]): Promise<void> {
  const row = await em.findOne(InstanceEntity, { reference });
  const room = row && rooms.find((one) => fits(row, one));
  if (!row || !room) return;
  // Whoever holds the row is at work on it already, and tries by itself.
  const held = await em.execute(
    "select 1 from computer.instance where reference = ? and allocation = 'PENDING' for update skip locked",
    [reference],
  );
  if (held.length === 0) return;
  await em.refresh(row);
  await placeInstance(em, append, "master", row);
  const taken = rooms.find((one) => one.partition.key === row.partitionKey);
  if (taken && !row.isShared) taken.isTaken = true;
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
