import type { EntityName } from "@mikro-orm/core";
import type { Sql } from "./session.js";

interface Column {
  property: string;
  name: string;
  /** What the row that a statement finds calls it. */
  found: string;
  convert: (value: never) => unknown;
}

const asItIs = (value: never) => value;

/**
 * Rows of an entity read by SQL of one's own, as plain objects. For what is asked so often that the unit of work with its
 * identity map and change tracking is too much: it costs several times what the statement does.
 */
export class Rows<Row extends object> {
  readonly #entity: EntityName<Row>;
  readonly #byAlias = new Map<string, { columns: Column[]; selected: string }>();

  constructor(entity: EntityName<Row>) {
    this.#entity = entity;
  }

  /** What to select of the table that the statement calls `alias`. */
  columns(sql: Pick<Sql, "getMetadata">, alias: string): string {
    return this.#of(sql, alias).selected;
  }

  /** The row that a statement with these columns has found. */
  read(sql: Pick<Sql, "getMetadata">, alias: string, found: Record<string, unknown>): Row {
    const row: Record<string, unknown> = {};
    for (const { property, found: name, convert } of this.#of(sql, alias).columns) {
      const value = found[name] ?? null;
      row[property] = value === null ? null : convert(value as never);
    }
    return row as Row;
  }

  #of(sql: Pick<Sql, "getMetadata">, alias: string) {
    const known = this.#byAlias.get(alias);
    if (known) return known;
    const columns = sql
      .getMetadata()
      .get(this.#entity)
      .props.map(
        ({ name, fieldNames, runtimeType }): Column => ({
          property: name,
          name: fieldNames[0] ?? name,
          found: `${alias}.${name}`,
          // The driver hands both over as text.
          convert:
            runtimeType === "number" ? Number : runtimeType === "Date" ? (text: string) => new Date(text) : asItIs,
        }),
      );
    const selected = columns.map(({ name, found }) => `${alias}."${name}" as "${found}"`).join(", ");
    const own = { columns, selected };
    this.#byAlias.set(alias, own);
    return own;
  }
}
