import type { EntityManager } from "../../common/database.js";

/**
 * Microseconds since the epoch, and always more than the last: it grows even if the clock steps back. All that one
 * statement raises get the same, unless one of them is ahead.
 */
export const nextRevision = "greatest((extract(epoch from statement_timestamp()) * 1000000)::bigint, revision + 1)";

/**
 * Locks a computer for the rest of the transaction and raises its revision, because something changed that its node
 * reads. Whoever changes a computer's partitions or installations holds this lock first, so they never interleave.
 * Order of locks everywhere: instances, then computers, then partitions. False when there is no such computer.
 */
export async function raiseComputer(em: EntityManager, reference: string): Promise<boolean> {
  const rows = await em.execute(
    `update computer.computer set revision = ${nextRevision} where reference = ? returning reference`,
    [reference],
  );
  return rows.length > 0;
}

/** Locks a computer without telling its node that anything changed. */
export async function lockComputer(em: EntityManager, reference: string): Promise<boolean> {
  const rows = await em.execute("select reference from computer.computer where reference = ? for update", [reference]);
  return rows.length > 0;
}

/** Makes the node process these partitions again. Their computers are locked and raised too. */
export async function raisePartitions(em: EntityManager, keys: readonly string[]): Promise<void> {
  if (keys.length === 0) return;
  const computers = new Set(keys.map((key) => computerOfPartition(key)));
  for (const reference of [...computers].sort()) await raiseComputer(em, reference);
  await em.execute(
    `update computer.partition set revision = ${nextRevision} where key in (${keys.map(() => "?").join(", ")})`,
    [...keys],
  );
}

/** `COMP-1` of `COMP-1/slappart0`: a computer's reference has no slash. */
export function computerOfPartition(key: string): string {
  return key.slice(0, key.indexOf("/"));
}
