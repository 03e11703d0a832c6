import { type Caller, isMember, mayReadAll } from "../../common/identity.js";

/** What matches no row, for callers that may see nothing of a kind. */
const nothing = { key: { $in: [] as string[] } };
const noReference = { reference: { $in: [] as string[] } };

/** Text between `COMP-1/` and `COMP-10`: the keys of one computer's partitions, `/` being followed by `0`. */
export function keysOfComputer(reference: string) {
  return { $gte: `${reference}/`, $lt: `${reference}0` };
}

/** Members see the computers of their project, a node itself. */
export function visibleComputers(caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (caller.kind === "person") return { project: caller.project };
  return caller.kind === "node" ? { reference: caller.subject, project: caller.project } : noReference;
}

/** Members see what is installed in their project, because it is what can be requested; a node its own. */
export function visibleInstallations(caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (caller.kind === "person") return { project: caller.project };
  return caller.kind === "node" ? { computerReference: caller.subject, project: caller.project } : nothing;
}

/** What was consumed is for those who read all of the project, and for the node that said it. */
export function visibleUsage(caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (mayReadAll(caller, caller.project)) return { project: caller.project };
  return caller.kind === "node"
    ? { computerReference: caller.subject, project: caller.project }
    : { id: { $in: [] as string[] } };
}

/** Owners and viewers see all partitions of the project, users those that hold their instances. */
export function visiblePartitions(caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (mayReadAll(caller, caller.project)) return { project: caller.project };
  if (caller.kind === "person") return { project: caller.project, owner: caller.subject };
  if (caller.kind === "node") return { computerReference: caller.subject, project: caller.project };
  return { instanceReference: caller.subject, project: caller.project };
}

/** As for partitions; an instance sees itself and the children that it requested. */
export function visibleInstances(caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (mayReadAll(caller, caller.project)) return { project: caller.project };
  if (caller.kind === "person") return { project: caller.project, owner: caller.subject };
  if (caller.kind === "node") return { partitionKey: keysOfComputer(caller.subject), project: caller.project };
  return { $or: [{ reference: caller.subject }, { parentReference: caller.subject }], project: caller.project };
}

/** Whether an event about a partition is for this caller; the same rule as `visiblePartitions`, on the event's own facts. */
export function mayHearOfPartition(
  caller: Caller,
  partition: { key: string; project: string; owner: string | null; instanceReference: string | null },
): boolean {
  if (caller.kind === "administrator" || mayReadAll(caller, partition.project)) return true;
  if (caller.project !== partition.project) return false;
  if (caller.kind === "person") return partition.owner === caller.subject;
  if (caller.kind === "node") return partition.key.startsWith(`${caller.subject}/`);
  return partition.instanceReference === caller.subject;
}

export function mayHearOfComputer(caller: Caller, computer: { reference: string; project: string }): boolean {
  return (
    isMember(caller, computer.project) ||
    (caller.kind === "node" && caller.project === computer.project && caller.subject === computer.reference)
  );
}

/** Connection parameters often hold passwords: viewers read everything but them. */
export function mayReadConnection(caller: Caller): boolean {
  return caller.kind !== "person" || caller.role !== "VIEWER";
}

/** Whether the caller speaks for a computer: its node, or the administrator. */
export function speaksForComputer(caller: Caller, reference: string): boolean {
  return caller.kind === "administrator" || (caller.kind === "node" && caller.subject === reference);
}
