import type { Running } from "../../../common/audit.js";
import type { Append } from "../../../common/event-log.js";
import type { Caller } from "../../../common/identity.js";
import { type Session, textArray } from "../../../common/session.js";
import { instanceRows } from "../rows.js";
import { type AllocationRequest, reasonsAgainstFilter, uniqueByNetwork } from "./allocate.js";
import { summarise } from "./explain-allocation.js";
import { findRooms } from "./find-room.js";
import type { InstanceRequest, InstanceRow } from "./instance.service.js";
import { allocated, type Placement, takePartitions } from "./place-instance.js";
import { instanceEvent } from "./request-state.js";

/** A request for an instance of a title that the owner did not have when it came. */
export interface NewRequest {
  caller: Caller;
  request: InstanceRequest;
  project: string;
  command: Running | undefined;
}

/**
 * What is the same for all requests that may be carried out together, because they want the same of a partition. Null for
 * those that each have to be looked at alone: they are no roots, or where they go depends on others.
 */
export function kindOfNew(project: string | null, request: InstanceRequest): string | null {
  const { releaseUrl, softwareType, filter, isShared = false, requestedState } = request;
  if (project === null || isShared || filter.mode === uniqueByNetwork || requestedState === "DESTROYED") return null;
  return JSON.stringify([project, releaseUrl, softwareType, Object.entries(filter).sort()]);
}

/**
 * Makes the instances of new requests of one kind and gives them room, in as many statements as for one. Null for a request
 * that has to go on alone: its title was taken meanwhile, or the computer that was found has no room for all.
 */
export async function requestNew(
  session: Session,
  append: Append,
  requests: readonly NewRequest[],
): Promise<(Placement | null)[]> {
  const made = await insertInstances(session, requests);
  const results = requests.map((): Placement | null => null);
  const places = requests.flatMap((asked, at) => {
    const instance = made.get(nameOf(asked.caller.subject, asked.request.title));
    // Of two with the same title only the first has made it.
    if (!instance || !made.delete(nameOf(instance.owner, instance.title))) return [];
    return [{ ...asked, at, instance }];
  });
  for (const { instance, caller, command } of places) {
    const payload = { title: instance.title, release: instance.releaseUrl };
    await append({ ...instanceEvent(instance, caller.subject, "InstanceRequested"), payload, command });
  }
  const [first] = places;
  if (!first) return results;
  const { releaseUrl, softwareType, filter } = first.request;
  const wanted = { project: first.project, isShared: false, releaseUrl, softwareType, filter, takenNetworks: [] };
  const rooms = reasonsAgainstFilter(filter).length > 0 ? [] : await findRooms(session, wanted, places.length);
  if (rooms.length === 0) {
    const pendingReasons = await wait(
      session,
      wanted,
      places.map(({ instance }) => instance),
    );
    for (const { at, instance } of places) results[at] = { instance: { ...instance, pendingReasons }, partition: null };
    return results;
  }
  const pairs = rooms.flatMap((partition, n) => {
    const place = places[n];
    return place ? [{ ...place, partition }] : [];
  });
  const taken = new Map((await takePartitions(session, pairs)).map((partition) => [partition.key, partition]));
  for (const { at, instance, partition, caller, command } of pairs) {
    const placed = { ...instance, allocation: "ALLOCATED" as const, partitionKey: partition.key };
    results[at] = { instance: placed, partition: taken.get(partition.key) ?? null };
    await append({ ...allocated(placed, partition, caller.subject), command });
  }
  return results;
}

const nameOf = (owner: string, title: string) => JSON.stringify([owner, title]);

/** In one order of titles, so that two transactions never wait for each other's. What is there already is not made. */
async function insertInstances(session: Session, requests: readonly NewRequest[]): Promise<Map<string, InstanceRow>> {
  const rows = requests.map(({ caller, project, request }) => ({
    project,
    owner: caller.subject,
    title: request.title,
    release: request.releaseUrl,
    type: request.softwareType,
    parameters: request.parameters,
    filter: request.filter,
    state: request.requestedState ?? "STARTED",
  }));
  const made = await session.execute(
    `with made as (
       insert into computer.instance (reference, number, project, title, root_reference, parent_reference, owner, release_url,
         software_type, is_shared, parameters, filter, requested_state, allocation, pending_reasons, reported_state,
         connection_parameters, created_at, revision)
       select 'SOFTINST-' || number, number, project, title, 'SOFTINST-' || number, null, owner, release,
         type, false, parameters, filter, state, 'PENDING', '[]', 'NONE', '{}', now(), (extract(epoch from now()) * 1000000)::bigint
       from (
         select nextval('computer.instance_number') as number, wanted.* from (
           select * from jsonb_to_recordset(?::jsonb) as r (project text, owner text, title text, release text, type text,
             parameters jsonb, filter jsonb, state text) order by owner, title) wanted) numbered
       on conflict do nothing returning *)
     select ${instanceRows.columns(session, "made")} from made`,
    [JSON.stringify(rows)],
  );
  return new Map(
    made.map((found) => {
      const row = instanceRows.read(session, "made", found);
      return [nameOf(row.owner, row.title), row];
    }),
  );
}

/** Writes down why there is no room for any of them. */
async function wait(session: Session, wanted: AllocationRequest, instances: readonly InstanceRow[]) {
  const reasons = await summarise(session, wanted);
  session.send("update computer.instance set pending_reasons = ?::jsonb where reference = any(?::text[])", [
    JSON.stringify(reasons),
    textArray(instances.map(({ reference }) => reference)),
  ]);
  return reasons;
}
