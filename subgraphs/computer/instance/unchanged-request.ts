import { isDeepStrictEqual } from "node:util";
import type { Caller } from "../../../common/identity.js";
import type { Sql } from "../../../common/session.js";
import { computerOfPartition } from "../revision.js";
import { instanceRows, partitionRows } from "../rows.js";
import { speaksForComputer } from "../visibility.js";
import type { InstanceRequest } from "./instance.service.js";
import type { RequestedState } from "./instance.state.js";
import type { Placement } from "./place-instance.js";

interface Present extends Placement {
  /** What the state of its root makes of any request in its tree; null where that leaves it to the request. */
  forcedState: RequestedState | null;
}

/**
 * The instance that a request is about, if it has a place and is in everything as requested: then the request is answered
 * without a transaction, which is what nearly all requests are, since every run of a recipe repeats its own. One statement,
 * so one snapshot. Null sends the request the long way, which also says what is wrong with it.
 */
export async function unchangedRequest(
  sql: Sql,
  caller: Caller,
  request: InstanceRequest,
  project: string | null,
): Promise<Placement | null> {
  const present =
    request.requesterPartitionKey == null
      ? await presentRoot(sql, project ?? "", caller.subject, request.title)
      : await presentChild(sql, caller, request.requesterPartitionKey, request.title);
  return present && isAsRequested(present, request) ? present : null;
}

function isAsRequested({ instance, forcedState }: Present, request: InstanceRequest): boolean {
  return (
    instance.requestedState !== "DESTROYED" &&
    instance.requestedState === (forcedState ?? request.requestedState ?? instance.requestedState) &&
    instance.releaseUrl === request.releaseUrl &&
    instance.softwareType === request.softwareType &&
    instance.isShared === (request.isShared ?? false) &&
    isDeepStrictEqual(instance.parameters, request.parameters) &&
    isDeepStrictEqual(instance.filter, request.filter)
  );
}

async function presentRoot(sql: Sql, project: string, owner: string, title: string): Promise<Present | null> {
  const [found] = await sql.execute<Record<string, unknown>[]>(
    `select ${instanceRows.columns(sql, "i")}, ${partitionRows.columns(sql, "p")}
     from computer.instance i join computer.partition p on p.key = i.partition_key
     where i.project = ? and i.owner = ? and i.title = ? and i.parent_reference is null and i.allocation = 'ALLOCATED'`,
    [project, owner, title],
  );
  return found ? { ...placementOf(sql, found), forcedState: null } : null;
}

/** A child that another member of the tree requested last is not as requested: it has another requester from now on. */
async function presentChild(sql: Sql, caller: Caller, key: string, title: string): Promise<Present | null> {
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
  return { instance: instanceRows.read(sql, "i", found), partition: partitionRows.read(sql, "p", found) };
}
