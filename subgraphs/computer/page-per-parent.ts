import { type EntityName, raw } from "@mikro-orm/core";
import type { EntityManager } from "../../common/database.js";
import { keyset, type Page } from "../../common/pagination.js";

/**
 * The first rows of a page for each of many parents in two statements: the keys by a window over each parent's rows, then
 * the rows. A list of computers with their partitions so costs the same number of statements however long the list is.
 */
export async function pagePerParent<Row extends { key: string; computerReference: string }>(
  em: EntityManager,
  entity: EntityName<Row>,
  references: readonly string[],
  visible: object,
  page: Page,
): Promise<Row[][]> {
  const { where, options } = keyset("key", page);
  const direction = page.backward ? "desc" : "asc";
  const windowed = em
    .createQueryBuilder(entity, "row")
    .select([
      "row.key",
      raw(`row_number() over (partition by "row"."computer_reference" order by "row"."key" ${direction}) as place`),
    ] as never)
    .where({ $and: [where, visible, { computerReference: { $in: [...references] } }] } as never)
    .toQuery();
  const keys = await em.execute<{ key: string }[]>(`select key from (${windowed.sql}) as windowed where place <= ?`, [
    ...windowed.params,
    page.limit + 1,
  ]);
  const rows = await em.find(
    entity,
    { key: { $in: keys.map((row) => row.key) } } as never,
    { orderBy: options.orderBy } as never,
  );
  const byParent = new Map<string, Row[]>(references.map((reference) => [reference, []]));
  for (const row of rows as Row[]) byParent.get(row.computerReference)?.push(row);
  return references.map((reference) => byParent.get(reference) ?? []);
}
