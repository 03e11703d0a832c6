import type { EntityManager } from "../../../common/database.js";
import type { AppError } from "../../../common/errors.js";
import type { Append } from "../../../common/event-log.js";
import type { Caller } from "../../../common/identity.js";
import type { InstanceRow } from "../instance/instance.service.js";
import type { ReportedState } from "../instance/instance.state.js";
import { lockInstancesIn } from "../instance/lock-instance.js";
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

interface Held {
  partition: PartitionRow;
  instance: InstanceRow;
  /** What the node reads of it is another now. */
  isRaised: boolean;
}

/**
 * The reports about the partitions of one computer, in their order, in as many statements as for one. A report that comes
 * too late (the partition was freed meanwhile) changes nothing and is no error: the node could do nothing about it.
 */
export async function reportPartitions(
  em: EntityManager,
  append: Append,
  computer: string,
  reports: readonly PartitionReport[],
): Promise<(null | AppError)[]> {
  const keys = [...new Set(reports.map(({ key }) => key))];
  const instances = await lockInstancesIn(em, keys);
  const isThere = await lockComputer(em, computer);
  const partitions = isThere ? await partitionsOf(em, keys) : new Map<string, PartitionRow>();
  const held = new Map<string, Held>();
  const results: (null | AppError)[] = [];
  for (const report of reports) {
    const { caller, key } = report;
    const instance = instances.get(key);
    const partition = partitions.get(key);
    const speaks = speaksForComputer(caller, computer) || speaksForInstance(caller, instance?.reference);
    results.push(speaks && partition ? null : noPartition(key));
    if (!speaks || !partition || !instance) continue;
    const one = held.get(key) ?? { partition, instance, isRaised: false };
    await take(one, report, append);
    held.set(key, one);
  }
  await write(em, computer, [...held.values()]);
  return results;
}

async function take(held: Held, report: PartitionReport, append: Append): Promise<void> {
  const { partition, instance } = held;
  const { caller, key, state, message } = report;
  const from = partition.state;
  const to = nextPartitionState(from, triggers[state]);
  if (to === null) return;
  // The node reads its own last report as `_access_status`, so it has to see the new one at its next poll.
  if (from !== to || (partition.message ?? null) !== message) held.isRaised = true;
  partition.message = message;
  instance.reportedState = reported[state];
  const subject = { key, project: partition.project, owner: instance.owner, instance: instance.reference };
  if (from === to) return append(partitionReported(subject, to, caller.subject, message));
  partition.state = to;
  partition.stateSince = new Date();
  await append(partitionStateChanged(subject, from, to, caller.subject, message));
}

async function partitionsOf(em: EntityManager, keys: readonly string[]): Promise<Map<string, PartitionRow>> {
  const rows = await em.execute<Record<string, unknown>[]>(
    `select ${partitionRows.columns(em, "p")} from computer.partition p where p.key in (${keys.map(() => "?").join(", ")})`,
    [...keys],
  );
  return new Map(
    rows.map((row) => {
      const partition = partitionRows.read(em, "p", row);
      return [partition.key, partition];
    }),
  );
}

async function write(em: EntityManager, computer: string, held: readonly Held[]): Promise<void> {
  if (held.length === 0) return;
  const changes = held.map(({ partition, instance }) => ({
    key: partition.key,
    state: partition.state,
    since: partition.stateSince,
    message: partition.message,
    instance: instance.reference,
    reported: instance.reportedState,
  }));
  await em.execute(
    `with change as (
       select * from jsonb_to_recordset(?::jsonb) as c
         (key text, state text, since timestamptz, message text, instance text, reported text)),
     raised as (update computer.computer set revision = ${nextRevision} where reference = ? and ?),
     instances as (
       update computer.instance i set reported_state = change.reported from change where i.reference = change.instance)
     update computer.partition p set state = change.state, state_since = change.since, message = change.message
     from change where p.key = change.key`,
    [JSON.stringify(changes), computer, held.some(({ isRaised }) => isRaised)],
  );
}
