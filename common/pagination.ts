import { AppError } from "./errors.js";
import type { Connection, PageArgs } from "./pagination.type.js";

export const maxPageSize = 100;

/** A keyset page: rows whose key lies strictly between the bounds, in key order, or from the end when `backward`. */
export interface Page {
  limit: number;
  backward: boolean;
  after: string | null;
  before: string | null;
}

/** Checks Relay's arguments; BAD_USER_INPUT or BAD_CURSOR says which one is wrong. */
export function toPage(args: PageArgs): Page {
  const { first, last } = args;
  if ((first == null) === (last == null))
    throw new AppError("BAD_USER_INPUT", "Give exactly one of `first` and `last`, 1 to 100.");
  const limit = first ?? last ?? 0;
  if (limit < 1 || limit > maxPageSize) {
    throw new AppError(
      "BAD_USER_INPUT",
      `\`${first == null ? "last" : "first"}\` takes 1 to ${maxPageSize}, not ${limit}.`,
    );
  }
  return {
    limit,
    backward: first == null,
    after: args.after == null ? null : decodeKey(args.after),
    before: args.before == null ? null : decodeKey(args.before),
  };
}

const keyPrefix = "key:";

export function encodeKey(key: string): string {
  return Buffer.from(keyPrefix + key).toString("base64url");
}

function decodeKey(cursor: string): string {
  const text = cursor.length <= 8192 ? Buffer.from(cursor, "base64url").toString("utf8") : "";
  if (text.startsWith(keyPrefix) && encodeKey(text.slice(keyPrefix.length)) === cursor)
    return text.slice(keyPrefix.length);
  throw new AppError("BAD_CURSOR", "This cursor was not made by this connection. Pass one unchanged, or none.");
}

/** MikroORM conditions and options for a page of a table whose order is one text column. */
export function keyset<Column extends string>(column: Column, page: Page) {
  const range = { ...(page.after ? { $gt: page.after } : {}), ...(page.before ? { $lt: page.before } : {}) };
  return {
    where: (page.after || page.before ? { [column]: range } : {}) as Record<Column, never>,
    // One row more than asked shows whether there is more.
    options: {
      orderBy: { [column]: page.backward ? "desc" : "asc" } as Record<Column, "asc" | "desc">,
      limit: page.limit + 1,
    },
  };
}

/** Turns the rows that `keyset` selected into a connection. */
export function toConnection<Row, Node>(
  rows: Row[],
  page: Page,
  keyOf: (row: Row) => string,
  toNode: (row: Row) => Node,
): Connection<Node> {
  const hasMore = rows.length > page.limit;
  const kept = rows.slice(0, page.limit);
  if (page.backward) kept.reverse();
  const edges = kept.map((row) => ({ cursor: encodeKey(keyOf(row)), node: toNode(row) }));
  return {
    edges,
    pageInfo: {
      hasNextPage: page.backward ? page.before !== null : hasMore,
      hasPreviousPage: page.backward ? hasMore : page.after !== null,
      startCursor: edges[0]?.cursor ?? null,
      endCursor: edges.at(-1)?.cursor ?? null,
    },
  };
}
