import type { EntityName } from "@mikro-orm/core";
import type { EntityManager } from "./database.js";

interface Column {
  property: string;
  name: string;
  convert: (value: never) => unknown;
}

const asItIs = (value: never) => value;

/**
 * Rows of an entity read by SQL of one's own, as plain objects. For what is asked so often that the unit of work with its
 * identity map and change tracking is too much: it costs several times what the statement does.
 */
export class Rows<Row extends object> {
  readonly #entity: EntityName<Row>;
  #columns: Column[] | undefined;

  constructor(entity: EntityName<Row>) {
    this.#entity = entity;
  }

  /** What to select of the table that the statement calls `alias`. */
  columns(em: EntityManager, alias: string): string {
    return this.#read(em)
      .map(({ property, name }) => `${alias}."${name}" as "${alias}.${property}"`)
      .join(", ");
  }

  /** The row that a statement with these columns has found. */
  read(em: EntityManager, alias: string, found: Record<string, unknown>): Row {
    const row: Record<string, unknown> = {};
    for (const { property, convert } of this.#read(em)) {
      const value = found[`${alias}.${property}`] ?? null;
      row[property] = value === null ? null : convert(value as never);
    }
    return row as Row;
  }

  #read(em: EntityManager): Column[] {
    this.#columns ??= em
      .getMetadata()
      .get(this.#entity)
      .props.map(({ name, fieldNames, runtimeType }) => ({
        property: name,
        name: fieldNames[0] ?? name,
        // The driver hands both over as text.
        convert: runtimeType === "number" ? Number : runtimeType === "Date" ? (text: string) => new Date(text) : asItIs,
      }));
    return this.#columns;
  }
}
