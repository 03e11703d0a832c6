import type { AppError } from "../../../common/errors.js";
import type { Append } from "../../../common/event-log.js";
import type { Caller } from "../../../common/identity.js";
import { type Session, textArray } from "../../../common/session.js";
import type { InstanceRow } from "../instance/instance.service.js";
import type { ReportedState } from "../instance/instance.state.js";
import { lockComputer, nextRevision } from "../revision.js";
import { partitionRows } from "../rows.js";
import { speaksForComputer } from "../visibility.js";
import {
  noPartition,
  type PartitionRow,
  partitionReported,
  partitionStateChanged,
  speaksForInstance,
} from "./partition.service.js";
import { nextPartitionState, type PartitionTrigger } from "./partition.state.js";

/** What a node says of an instance while it has it. That it has destroyed one is another matter. */
export interface PartitionReport {
  caller: Caller;
  key: string;
  state: "started" | "stopped" | "error";
  message: string | null;
}

const triggers = { started: "reportStarted", stopped: "reportStopped", error: "reportError" } as const satisfies Record<
  PartitionReport["state"],
  PartitionTrigger
>;
const reported: Record<PartitionReport["state"], ReportedState> = {
  started: "STARTED",
  stopped: "STOPPED",
  error: "ERROR",
};

type HeldInstance = Pick<InstanceRow, "reference" | "owner" | "reportedState">;

interface Held {
  partition: PartitionRow;
  instance: HeldInstance;
}

/**
 * The reports about the partitions of one computer, in their order, in as many statements as for one. A report that comes
 * too late (the partition was freed meanwhile) changes nothing and is no error: the node could do nothing about it.
 */
export async function reportPartitions(
  session: Session,
  append: Append,
  computer: string,
  reports: readonly PartitionReport[],
): Promise<(null | AppError)[]> {
  const keys = [...new Set(reports.map(({ key }) => key))];
  // Sent together, and carried out one after the other: the partitions are read once their computer is locked.
  const [instances, , partitions] = await Promise.all([
    lockedInstances(session, keys),
    lockComputer(session, computer),
    partitionsOf(session, keys),
  ]);
  const changed = new Map<string, Held>();
  const results: (null | AppError)[] = [];
  for (const report of reports) {
    const { caller, key } = report;
    const instance = instances.get(key);
    const partition = partitions.get(key);
    const speaks = speaksForComputer(caller, computer) || speaksForInstance(caller, instance?.reference);
    results.push(speaks && partition ? null : noPartition(key));
    if (!speaks || !partition || !instance) continue;
    const isChanged = await take({ partition, instance }, report, append);
    if (isChanged) changed.set(key, { partition, instance });
  }
  if (changed.size > 0) write(session, computer, [...changed.values()]);
  return results;
}

/** Whether anything is another now than was said before: then the node, which reads it as `_access_status`, has to see it. */
async function take({ partition, instance }: Held, report: PartitionReport, append: Append): Promise<boolean> {
  const { caller, key, state, message } = report;
  const from = partition.state;
  const to = nextPartitionState(from, triggers[state]);
  if (to === null) return false;
  const isChanged = from !== to || partition.message !== message || instance.reportedState !== reported[state];
  partition.message = message;
  instance.reportedState = reported[state];
  const subject = { key, project: partition.project, owner: instance.owner, instance: instance.reference };
  if (from === to) await append(partitionReported(subject, to, caller.subject, message));
  else {
    partition.state = to;
    partition.stateSince = new Date();
    await append(partitionStateChanged(subject, from, to, caller.subject, message));
  }
  return isChanged;
}

async function lockedInstances(session: Session, keys: readonly string[]): Promise<Map<string, HeldInstance>> {
  const rows = await session.execute<(HeldInstance & { key: string })[]>(
    `select partition_key as key, reference, owner, reported_state as "reportedState" from computer.instance
     where partition_key = any(?::text[]) and allocation = 'ALLOCATED' and not is_shared order by reference for update`,
    [textArray(keys)],
  );
  return new Map(rows.map((row) => [row.key, row]));
}

async function partitionsOf(session: Session, keys: readonly string[]): Promise<Map<string, PartitionRow>> {
  const rows = await session.execute(
    `select ${partitionRows.columns(session, "p")} from computer.partition p where p.key = any(?::text[])`,
    [textArray(keys)],
  );
  return new Map(
    rows.map((row) => {
      const partition = partitionRows.read(session, "p", row);
      return [partition.key, partition];
    }),
  );
}

function write(session: Session, computer: string, held: readonly Held[]): void {
  const changes = held.map(({ partition, instance }) => ({
    key: partition.key,
    state: partition.state,
    since: partition.stateSince,
    message: partition.message,
    instance: instance.reference,
    reported: instance.reportedState,
  }));
  // Of how many rows the JSON holds the planner knows nothing, and would read whole tables to join it; the arrays tell it.
  session.send(
    `with change as (
       select * from jsonb_to_recordset(?::jsonb) as c
         (key text, state text, since timestamptz, message text, instance text, reported text)),
     raised as (update computer.computer set revision = ${nextRevision} where reference = ?),
     instances as (
       update computer.instance i set reported_state = change.reported from change
       where i.reference = change.instance and i.reference = any(?::text[]) and i.reported_state <> change.reported)
     update computer.partition p set state = change.state, state_since = change.since, message = change.message
     from change where p.key = change.key and p.key = any(?::text[])`,
    [
      JSON.stringify(changes),
      computer,
      textArray(changes.map(({ instance }) => instance)),
      textArray(changes.map(({ key }) => key)),
    ],
  );
}
