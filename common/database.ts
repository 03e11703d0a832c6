import type { Constructor } from "@mikro-orm/core";
import { type Migration, Migrator } from "@mikro-orm/migrations";
import { type EntityManager, MikroORM, type Options } from "@mikro-orm/postgresql";
import { Client, type Pool, type PoolClient } from "pg";
import { ConfigError } from "./config.js";
import { cutWhenHung } from "./hung-database.js";
import type { Logger } from "./log.js";
import { countConnections } from "./metrics.js";
import { traceStatements } from "./tracing.js";

export type { EntityManager };

export interface DatabaseOptions {
  url: string;
  /** The PostgreSQL schema that one subgraph owns; its migration table lives in it too. */
  schema: string;
  entities: NonNullable<Options["entities"]>;
  /** In the order in which they are applied. A name once released never changes. */
  migrations: { name: string; class: Constructor<Migration> }[];
  poolSize: number;
  log: Logger;
}

const connectTimeoutMs = 10_000;
const statementTimeoutMs = 30_000;
/** Said here where the database itself no longer answers: later than it would say so. */
const queryTimeoutMs = 35_000;
/**
 * A session's prepared statements are planned once. All are look-ups by an index, which a plan that was made while the
 * tables were small must not forget when they grow. Before PostgreSQL 18 a table that is read whole all the same counts as
 * so dear that its statement would be compiled first.
 */
const planning = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off";
/** Bounds how long a stuck transaction can hold back the event log's readers. */
const idleInTransactionTimeoutMs = 30_000;

/** Connects, brings the schema up to date, and hands out the ORM. A sentence where the database or its version is not usable. */
export async function openDatabase(options: DatabaseOptions): Promise<MikroORM> {
  const orm = await MikroORM.init({
    clientUrl: options.url,
    schema: options.schema,
    entities: options.entities,
    discovery: { warnWhenNoEntities: false },
    extensions: [Migrator],
    pool: { min: 0, max: options.poolSize, idleTimeoutMillis: 30_000 },
    driverOptions: {
      connectionTimeoutMillis: connectTimeoutMs,
      statement_timeout: statementTimeoutMs,
      query_timeout: queryTimeoutMs,
      keepAlive: true,
      // What a session sends together goes out before the first of it is answered.
      pipeline: true,
      options: planning,
      idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
      application_name: `slapgraph ${options.schema}`,
      onPoolCreated: (pool: Pool) => {
        takeBackDeadConnections(pool);
        cutWhenHung(pool, options.url, options.log);
        countConnections(pool, options.schema);
        pool.on("connect", (client) => traceStatements(client, options.schema));
      },
    },
    migrations: {
      tableName: `${options.schema}.migration`,
      migrationsList: options.migrations,
      snapshot: false,
      silent: true,
    },
    logger: (message) => options.log.debug(message),
    allowGlobalContext: false,
  });
  try {
    await migrate(orm, options);
  } catch (error) {
    await orm.close(true);
    throw error;
  }
  return orm;
}

/** Several processes may start at once on one database: the first migrates, the others wait for it and find nothing to do. */
async function migrate(orm: MikroORM, options: DatabaseOptions): Promise<void> {
  const lock = new Client({ connectionString: options.url, connectionTimeoutMillis: connectTimeoutMs });
  lock.on("error", () => undefined);
  try {
    await lock.connect();
  } catch (error) {
    throw new ConfigError(
      `The database of DATABASE_URL (${hostOf(options.url)}) cannot be reached: ${describe(error)}`,
      { cause: error },
    );
  }
  try {
    await lock.query("select pg_advisory_lock(hashtext('slapgraph migrate'))");
    await lock.query(`create schema if not exists ${lock.escapeIdentifier(options.schema)}`);
    const known = new Set(options.migrations.map((migration) => migration.name));
    const executed = await orm.migrator.getExecuted();
    const unknown = executed.find(({ name }) => !known.has(name));
    if (unknown) {
      throw new ConfigError(
        `The data was written by a newer version (${options.schema} has ${unknown.name}, unknown here). Start that version, or a newer one.`,
      );
    }
    await orm.migrator.up();
  } finally {
    await lock.end().catch(() => undefined);
  }
}

/** A query on a dead connection fails at once, and whoever ran it gives the connection back: this is time enough. */
const takeBackAfterMs = 1_000;

/**
 * A transaction whose connection dies cannot be rolled back, and the query builder below the ORM gives a connection back
 * only after it was: each crash of the database would cost the pool those that were in a transaction, until none is left.
 */
function takeBackDeadConnections(pool: Pool): void {
  const taken = new Set<PoolClient>();
  pool.on("acquire", (client) => taken.add(client));
  pool.on("release", (_error, client) => taken.delete(client));
  pool.on("connect", (client) => {
    client.once("end", () => {
      const takeBack = () => {
        if (taken.has(client)) client.release(true);
      };
      setTimeout(takeBack, takeBackAfterMs).unref();
    });
  });
}

function hostOf(url: string): string {
  const { hostname, port } = new URL(url);
  return `${hostname}:${port || 5432}`;
}

/** A refused connection to a name with several addresses comes as an AggregateError with an empty message. */
function describe(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map((one) => (one as Error).message).join("; ");
  return (error as Error).message;
}

/** Readiness: one cheap statement on a pooled connection. */
export async function pingDatabase(orm: MikroORM): Promise<void> {
  await orm.em.fork().execute("select 1");
}
