import { type Sql, textArray } from "../../common/session.js";

/** Microseconds since the epoch, and always more than the last: it grows even if the clock steps back. */
export const nextRevision = "greatest((extract(epoch from statement_timestamp()) * 1000000)::bigint, revision + 1)";

export const raisingComputer = `update computer.computer set revision = ${nextRevision} where reference = ? returning revision`;

/**
 * Locks a computer for the rest of the transaction and raises its revision, because something changed that its node
 * reads. Whoever changes a computer's partitions or installations holds this lock first, so they never interleave.
 * Order of locks everywhere: instances, then computers, then partitions. Null when there is no such computer.
 */
export async function raiseComputer(sql: Sql, reference: string): Promise<number | null> {
  const [row] = await sql.execute<{ revision: string }[]>(raisingComputer, [reference]);
  return row ? Number(row.revision) : null;
}

/** Locks a computer without telling its node that anything changed. */
export async function lockComputer(sql: Sql, reference: string): Promise<boolean> {
  const rows = await sql.execute<object[]>("select reference from computer.computer where reference = ? for update", [
    reference,
  ]);
  return rows.length > 0;
}

/**
 * Makes the node process these partitions again. Their computers are locked and raised too, and a partition takes its
 * computer's new revision: so it is above any that a partition of this name has ever had, also one that was removed by a
 * format and made again while the clock stepped back. `alsoComputers` are raised with them, in the order of locks.
 */
export async function raisePartitions(
  sql: Sql,
  keys: readonly string[],
  alsoComputers: readonly string[] = [],
): Promise<void> {
  const computers = new Set([...alsoComputers, ...keys.map((key) => computerOfPartition(key))]);
  for (const reference of [...computers].sort()) await raiseComputer(sql, reference);
  if (keys.length === 0) return;
  await sql.execute(
    `update computer.partition p set revision = greatest(c.revision, p.revision + 1)
     from computer.computer c where c.reference = p.computer_reference and p.key = any(?::text[])`,
    [textArray(keys)],
  );
}

/** `COMP-1` of `COMP-1/slappart0`: a computer's reference has no slash. */
export function computerOfPartition(key: string): string {
  return key.slice(0, key.indexOf("/"));
}
