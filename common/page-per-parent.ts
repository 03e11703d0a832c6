import { type EntityName, raw } from "@mikro-orm/core";
import DataLoader from "dataloader";
import type { EntityManager } from "./database.js";
import { keyset, type Page } from "./pagination.js";

export interface PagesPerParent<Row> {
  entity: EntityName<Row>;
  parents: readonly string[];
  /** The parent of a row of the alias `"row"`, as SQL of ours. */
  parentSql: string;
  parentOf: (row: Row) => string | null | undefined;
  /** The text column that orders the rows of one parent, the same name in the entity and in the table. */
  key: string & keyof Row;
  /** Which rows: those of the parents that the caller sees. */
  where: object;
  page: Page;
}

/**
 * The first rows of a page for each of many parents in two statements: the keys by a window over each parent's rows, then
 * the rows. A list of computers with their partitions so costs the same number of statements however long the list is.
 */
export async function pagePerParent<Row extends object>(
  em: EntityManager,
  { entity, parents, parentSql, parentOf, key, where, page }: PagesPerParent<Row>,
): Promise<Row[][]> {
  const range = keyset(key as string, page);
  const direction = page.backward ? "desc" : "asc";
  const windowed = em
    .createQueryBuilder(entity, "row")
    .select([
      `row.${key}`,
      raw(`row_number() over (partition by ${parentSql} order by "row"."${key}" ${direction}) as place`),
    ] as never)
    .where({ $and: [range.where, where] } as never)
    .toQuery();
  const keys = await em.execute<Record<string, string>[]>(
    `select "${key}" from (${windowed.sql}) as windowed where place <= ?`,
    [...windowed.params, page.limit + 1],
  );
  const rows = await em.find(
    entity,
    { [key]: { $in: keys.map((row) => row[key]) } } as never,
    { orderBy: range.options.orderBy } as never,
  );
  const byParent = new Map<string, Row[]>(parents.map((parent) => [parent, []]));
  for (const row of rows as Row[]) byParent.get(parentOf(row) ?? "")?.push(row);
  return parents.map((parent) => byParent.get(parent) ?? []);
}

/** One loader per page shape: parents that ask for the same page are answered together. */
export function loadersPerPage<Row>(load: (page: Page, parents: readonly string[]) => Promise<Row[][]>) {
  const loaders = new Map<string, DataLoader<string, Row[]>>();
  return (page: Page): DataLoader<string, Row[]> => {
    const shape = JSON.stringify(page);
    const loader = loaders.get(shape) ?? new DataLoader((parents: readonly string[]) => load(page, parents));
    loaders.set(shape, loader);
    return loader;
  };
}
