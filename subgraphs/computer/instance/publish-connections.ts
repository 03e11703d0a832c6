import { isDeepStrictEqual } from "node:util";
import type { AppError } from "../../../common/errors.js";
import type { Append } from "../../../common/event-log.js";
import type { Caller } from "../../../common/identity.js";
import { type Session, textArray } from "../../../common/session.js";
import { noPartition, speaksForInstance } from "../partition/partition.service.js";
import { raisePartitions, raisingComputer } from "../revision.js";
import { speaksForComputer } from "../visibility.js";
import type { InstanceRow } from "./instance.service.js";
import { lockInstancesIn } from "./lock-instance.js";
import { instanceEvent } from "./request-state.js";

/** What an instance publishes, or what the host of a shared instance publishes for it. */
export interface Publication {
  caller: Caller;
  partitionKey: string;
  parameters: Record<string, string>;
  /** The shared instance that it is for; null for the partition's own. */
  sharedReference: string | null;
}

/**
 * What the partitions of one computer publish, in order, in as many statements as for one. Stored only if it differs; the
 * instance that requested it is then processed again. For a shared instance it also says that its host serves it.
 */
export async function publishConnections(
  session: Session,
  append: Append,
  computer: string,
  publications: readonly Publication[],
): Promise<(null | AppError)[]> {
  const keys = [...new Set(publications.map(({ partitionKey }) => partitionKey))];
  const shared = [...new Set(publications.flatMap(({ sharedReference }) => sharedReference ?? []))];
  const instances = await lockInstancesIn(session, keys, shared);
  const changed = new Map<string, InstanceRow>();
  const parents = new Set<string>();
  const results: (null | AppError)[] = [];
  for (const { caller, partitionKey, parameters, sharedReference } of publications) {
    const host = instances.get(partitionKey);
    const row = sharedReference === null ? host : instances.get(sharedReference);
    const speaks = speaksForComputer(caller, computer) || speaksForInstance(caller, host?.reference);
    const isHere = row?.partitionKey === partitionKey;
    results.push(speaks && row && isHere ? null : noPartition(partitionKey));
    if (!speaks || !row || !isHere) continue;
    // Nothing else says that a host has served a shared instance, also after an error with it.
    if (row.isShared && row.reportedState !== "STARTED") {
      row.reportedState = "STARTED";
      changed.set(row.reference, row);
    }
    if (isDeepStrictEqual(row.connectionParameters, parameters)) continue;
    row.connectionParameters = parameters;
    changed.set(row.reference, row);
    if (row.parentReference != null) parents.add(row.parentReference);
    // The values stay out of the log: they are often credentials.
    await append({
      ...instanceEvent(row, caller.subject, "ConnectionPublished"),
      payload: { keys: Object.keys(parameters).slice(0, 50) },
    });
  }
  if (changed.size > 0) await write(session, computer, [...changed.values()], [...parents]);
  return results;
}

async function write(
  session: Session,
  computer: string,
  rows: readonly InstanceRow[],
  parents: readonly string[],
): Promise<void> {
  const changes = rows.map(({ reference, connectionParameters, reportedState }) => ({
    reference,
    connection: connectionParameters,
    reported: reportedState,
  }));
  session.send(
    `update computer.instance i set connection_parameters = change.connection, reported_state = change.reported
     from jsonb_to_recordset(?::jsonb) as change (reference text, connection jsonb, reported text)
     where i.reference = change.reference and i.reference = any(?::text[])`,
    [JSON.stringify(changes), textArray(changes.map(({ reference }) => reference))],
  );
  if (parents.length === 0) return session.send(raisingComputer, [computer]);
  const waiting = await session.execute<{ partition_key: string }[]>(
    "select partition_key from computer.instance where reference = any(?::text[]) and partition_key is not null",
    [textArray(parents)],
  );
  await raisePartitions(
    session,
    waiting.map(({ partition_key }) => partition_key),
    [computer],
  );
}
