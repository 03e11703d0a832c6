import type { MetadataStorage } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { Pool, PoolClient } from "pg";

/** Whatever runs SQL with `?` for its parameters: the ORM's manager, or a session past it. */
export interface Sql {
  execute<Result extends object[]>(sql: string, parameters?: unknown[]): Promise<Result>;
  getMetadata(): MetadataStorage;
}

/** With `?` for each of its parameters. */
export type Statement = [sql: string, parameters: unknown[]];

/** A few are put together by what a request asks for, so there is a bound; beyond it they are parsed each time. */
const maxPrepared = 500;
const prepared = new Map<string, { text: string; name?: string }>();

/**
 * A connection past the ORM, for what nodes ask and say every minute. A connection prepares a statement once, and what is
 * sent before an answer is awaited goes out together: each write to the socket costs as much as a small statement.
 */
export class Session implements Sql {
  readonly #client: PoolClient;
  readonly #orm: MikroORM;
  readonly #sent: Promise<unknown>[] = [];
  #isCorked = false;

  constructor(client: PoolClient, orm: MikroORM) {
    this.#client = client;
    this.#orm = orm;
  }

  execute<Result extends object[] = Record<string, unknown>[]>(
    sql: string,
    parameters: unknown[] = [],
  ): Promise<Result> {
    this.#cork();
    const answer = this.#client
      .query({ ...statementOf(sql), values: parameters })
      .then(({ rows }) => rows as unknown as Result);
    // One that was sent together with others may fail after them, when nobody waits for it any more.
    answer.catch(() => undefined);
    return answer;
  }

  /** The same for what answers nothing: whether it went well shows when the transaction ends. */
  send(sql: string, parameters: unknown[] = []): void {
    this.#sent.push(this.execute(sql, parameters));
  }

  /** Throws the first of what failed of all that was sent. */
  async settle(): Promise<void> {
    for (const sent of this.#sent.splice(0)) await sent;
  }

  getMetadata(): MetadataStorage {
    return this.#orm.getMetadata();
  }

  #cork(): void {
    if (this.#isCorked) return;
    const { stream } = (this.#client as unknown as { connection: { stream: NodeJS.WriteStream } }).connection;
    this.#isCorked = true;
    stream.cork();
    process.nextTick(() => {
      this.#isCorked = false;
      stream.uncork();
    });
  }
}

function statementOf(sql: string): { text: string; name?: string } {
  const known = prepared.get(sql);
  if (known) return known;
  let count = 0;
  const text = sql.replaceAll("?", () => `$${++count}`);
  if (prepared.size >= maxPrepared) return { text };
  const statement = { text, name: `slapgraph-${prepared.size}` };
  prepared.set(sql, statement);
  return statement;
}

/** Statements each of which is its own transaction. */
export async function inSession<Result>(orm: MikroORM, work: (session: Session) => Promise<Result>): Promise<Result> {
  const client = await connect(orm);
  try {
    return await work(new Session(client, orm));
  } finally {
    client.release();
  }
}

/** One transaction. It begins with its first statements and is committed with its last ones. */
export async function inTransaction<Result>(
  orm: MikroORM,
  work: (session: Session) => Promise<Result>,
  mode: "read committed" | "repeatable read, read only" = "read committed",
): Promise<Result> {
  const client = await connect(orm);
  const session = new Session(client, orm);
  try {
    session.send(`begin isolation level ${mode}`);
    const result = await work(session);
    // Behind a statement that failed it ends the transaction without a commit, and what failed is thrown.
    session.send("commit");
    await session.settle();
    client.release();
    return result;
  } catch (error) {
    await client.query("rollback").then(
      () => client.release(),
      () => client.release(true),
    );
    throw error;
  }
}

async function connect(orm: MikroORM): Promise<PoolClient> {
  return ((await orm.driver.getConnection().getNativeClient()) as Pool).connect();
}

/** A PostgreSQL array literal, for `any(?::text[])`: references and names may hold anything. */
export function textArray(texts: Iterable<string>): string {
  return `{${Array.from(texts, (text) => `"${text.replaceAll(/["\\]/g, "\\$&")}"`).join(",")}}`;
}
