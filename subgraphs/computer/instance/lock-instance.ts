import type { EntityManager } from "../../../common/database.js";
import { type Sql, textArray } from "../../../common/session.js";
import { nextRevision, raisePartitions } from "../revision.js";
import { instanceRows } from "../rows.js";
import { InstanceEntity } from "./instance.entity.js";
import type { InstanceRow } from "./instance.service.js";

/** Locks in one order, so that two transactions never wait for each other's instances. Instances come before computers. */
export async function lockInstances(em: EntityManager, references: readonly string[]): Promise<void> {
  if (references.length === 0) return;
  await em.execute(
    "select reference from computer.instance where reference = any(?::text[]) order by reference for update",
    [textArray(references)],
  );
}

/** The instances whose partitions these are, by their keys, and shared ones by their references: all locked, in one order. */
export async function lockInstancesIn(
  sql: Sql,
  keys: readonly string[],
  shared: readonly string[] = [],
): Promise<Map<string, InstanceRow>> {
  const rows = await sql.execute<Record<string, unknown>[]>(
    `select ${instanceRows.columns(sql, "i")} from computer.instance i where i.allocation = 'ALLOCATED'
       and (i.partition_key = any(?::text[]) and not i.is_shared or i.reference = any(?::text[]) and i.is_shared)
     order by i.reference for update`,
    [textArray(keys), textArray(shared)],
  );
  return new Map(
    rows.map((found) => {
      const row = instanceRows.read(sql, "i", found);
      return [row.isShared ? row.reference : (row.partitionKey ?? ""), row];
    }),
  );
}

/** The instance whose partition this is, locked. */
export async function lockInstanceIn(em: EntityManager, partitionKey: string): Promise<InstanceRow | null> {
  const [row] = await em.execute<{ reference: string }[]>(
    "select reference from computer.instance where partition_key = ? and allocation = 'ALLOCATED' and not is_shared for update",
    [partitionKey],
  );
  return row ? em.findOneOrFail(InstanceEntity, { reference: row.reference }) : null;
}

/** A shared instance, locked, if it is in this host's partition. */
export async function lockSharedInstanceIn(
  em: EntityManager,
  partitionKey: string,
  reference: string,
): Promise<InstanceRow | null> {
  const [row] = await em.execute<{ reference: string }[]>(
    `select reference from computer.instance
     where reference = ? and partition_key = ? and allocation = 'ALLOCATED' and is_shared for update`,
    [reference, partitionKey],
  );
  return row ? em.findOneOrFail(InstanceEntity, { reference: row.reference }) : null;
}

/** Makes the nodes process what these instances are made of: their own partitions, or their hosts'. */
export async function raiseInstances(em: EntityManager, rows: readonly InstanceRow[]): Promise<void> {
  const shared = rows.filter((row) => row.isShared).map((row) => row.reference);
  if (shared.length > 0) {
    await em.execute(`update computer.instance set revision = ${nextRevision} where reference = any(?::text[])`, [
      textArray(shared),
    ]);
  }
  await raisePartitions(em, [...new Set(rows.flatMap((row) => row.partitionKey ?? []))].sort());
}
