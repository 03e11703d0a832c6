import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append } from "../../../common/event-log.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import { partitionStateChanged } from "../partition/partition.service.js";
import { nextPartitionState } from "../partition/partition.state.js";
import { InstanceEntity } from "./instance.entity.js";
import type { InstanceRow } from "./instance.service.js";
import { mayAllocationBecome, mayRequestBecome, type RequestedState } from "./instance.state.js";
import { raiseInstances } from "./lock-instance.js";

/** Starts, stops or destroys an instance with its descendants, because a tree lives and stops together. */
export async function requestState(
  em: EntityManager,
  append: Append,
  actor: string,
  row: InstanceRow,
  state: RequestedState,
): Promise<void> {
  if (row.requestedState === state) return;
  if (!mayRequestBecome(row.requestedState, state)) throw beingDestroyed(row);
  // The whole tree takes turns, so what is read below is what is true until the end of the transaction.
  await em.execute("select reference from computer.instance where root_reference = ? order by reference for update", [
    row.rootReference,
  ]);
  const changed: InstanceRow[] = [];
  for (const member of await descendants(em, row)) {
    if (member.requestedState === state || !mayRequestBecome(member.requestedState, state)) continue;
    const from = member.requestedState;
    member.requestedState = state;
    await append({
      ...instanceEvent(member, actor, "InstanceRequestChanged"),
      payload: { from, to: state, partition: member.partitionKey ?? null },
    });
    changed.push(member);
  }
  await em.flush();
  await raiseInstances(em, changed);
  if (state !== "DESTROYED") return;
  for (const member of changed) {
    // What is in no partition of its own has nothing to be destroyed on a node: its host just stops serving it.
    if ((member.isShared || member.partitionKey == null) && mayAllocationBecome(member.allocation, "RELEASED"))
      member.allocation = "RELEASED";
    else if (member.partitionKey) await markDestroying(em, append, actor, member.partitionKey);
  }
  await em.flush();
}

async function markDestroying(em: EntityManager, append: Append, actor: string, key: string): Promise<void> {
  const partition = await em.findOneOrFail(PartitionEntity, { key });
  const from = partition.state;
  const to = nextPartitionState(from, "requestDestruction");
  if (to === null || to === from) return;
  partition.state = to;
  partition.stateSince = new Date();
  const { project, owner = null, instanceReference = null } = partition;
  await append(partitionStateChanged({ key, project, owner, instance: instanceReference }, from, to, actor, null));
}

async function descendants(em: EntityManager, row: InstanceRow): Promise<InstanceRow[]> {
  await em.flush();
  const alive = { rootReference: row.rootReference, allocation: { $ne: "RELEASED" as const } };
  const tree = await em.find(InstanceEntity, alive, { refresh: true });
  const members = [row];
  for (const member of members)
    members.push(...tree.filter((one) => one.parentReference === member.reference && !members.includes(one)));
  return members;
}

export function instanceEvent(row: InstanceRow, actor: string, kind: string) {
  return { kind, subject: row.reference, project: row.project, actor };
}

export function beingDestroyed(row: InstanceRow): AppError {
  return new AppError(
    "STATE_CONFLICT",
    `${row.title} is being destroyed. Wait until its node has removed it, then request it again.`,
    { details: { path: ["input", "title"] } },
  );
}
