import { isDeepStrictEqual } from "node:util";
import type { Caller } from "../../../common/identity.js";
import { type Sql, textArray } from "../../../common/session.js";
import { computerOfPartition } from "../revision.js";
import { instanceRows, partitionRows } from "../rows.js";
import { speaksForComputer } from "../visibility.js";
import type { InstanceRequest } from "./instance.service.js";
import type { RequestedState } from "./instance.state.js";
import type { Placement } from "./place-instance.js";

export interface Present extends Placement {
  /** What the state of its root makes of any request in its tree; null where that leaves it to the request. */
  forcedState: RequestedState | null;
}

/** What names a root. */
export interface RootName {
  project: string;
  owner: string;
  title: string;
}

/**
 * Whether it has a place and is in everything as requested: then the request is answered without a transaction, which is
 * what nearly all requests are, since every run of a recipe repeats its own.
 */
export function isAsRequested({ instance, partition, forcedState }: Present, request: InstanceRequest): boolean {
  return (
    partition !== null &&
    instance.requestedState !== "DESTROYED" &&
    instance.requestedState === (forcedState ?? request.requestedState ?? instance.requestedState) &&
    instance.releaseUrl === request.releaseUrl &&
    instance.softwareType === request.softwareType &&
    instance.isShared === (request.isShared ?? false) &&
    isDeepStrictEqual(instance.parameters, request.parameters) &&
    isDeepStrictEqual(instance.filter, request.filter)
  );
}

/** The roots that live under these names, each in one snapshot with its partition. */
export async function presentRoots(sql: Sql, names: readonly RootName[]): Promise<(Present | null)[]> {
  const rows = await sql.execute<Record<string, unknown>[]>(
    `select asked.place, ${instanceRows.columns(sql, "i")}, ${partitionRows.columns(sql, "p")}
     from unnest(?::text[], ?::text[], ?::text[]) with ordinality as asked (project, owner, title, place)
     join computer.instance i on i.project = asked.project and i.owner = asked.owner and i.title = asked.title
       and i.parent_reference is null and i.allocation <> 'RELEASED'
     left join computer.partition p on p.key = i.partition_key`,
    [
      textArray(names.map(({ project }) => project)),
      textArray(names.map(({ owner }) => owner)),
      textArray(names.map(({ title }) => title)),
    ],
  );
  const found = new Map(rows.map((row) => [Number(row.place), { ...placementOf(sql, row), forcedState: null }]));
  return names.map((_, index) => found.get(index + 1) ?? null);
}

/** A child that another member of the tree requested last is not as requested: it has another requester from now on. */
export async function presentChild(sql: Sql, caller: Caller, key: string, title: string): Promise<Present | null> {
  const [found] = await sql.execute<Record<string, unknown>[]>(
    `select ${instanceRows.columns(sql, "i")}, ${partitionRows.columns(sql, "p")}, root.requested_state as root_state
     from computer.instance parent
     join computer.instance root on root.reference = parent.root_reference
     join computer.instance i on i.root_reference = root.reference and i.parent_reference = parent.reference
     join computer.partition p on p.key = i.partition_key
     where parent.partition_key = ? and parent.allocation = 'ALLOCATED' and not parent.is_shared
       and parent.requested_state <> 'DESTROYED' and i.title = ? and i.allocation = 'ALLOCATED'`,
    [key, title],
  );
  if (!found) return null;
  const placement = placementOf(sql, found);
  const isOfParent = caller.kind === "instance" && caller.subject === placement.instance.parentReference;
  if (!speaksForComputer(caller, computerOfPartition(key)) && !isOfParent) return null;
  const rootState = found.root_state as RequestedState;
  return { ...placement, forcedState: rootState === "STARTED" ? null : rootState };
}

function placementOf(sql: Sql, found: Record<string, unknown>): Placement {
  const instance = instanceRows.read(sql, "i", found);
  return { instance, partition: instance.partitionKey === null ? null : partitionRows.read(sql, "p", found) };
}
