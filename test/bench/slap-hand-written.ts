import { Pool, type PoolClient } from "pg";
import { endAfterwards } from "./report.js";

/**
 * What a report, a new value and a request cost as SQL alone: one durable transaction each, written by hand on plain pg,
 * with the locks, the revisions and the event that the rules of the house ask for, and no HTTP around it.
 */
export class HandWritten {
  readonly #pool: Pool;

  constructor(databaseUrl: string) {
    this.#pool = new Pool({ connectionString: databaseUrl, max: 8 });
    endAfterwards(() => this.#pool.end());
  }

  /** Transactions a second with 8 at once. */
  async rate(amount: number, work: (client: PoolClient, n: number) => Promise<void>): Promise<number> {
    let next = 0;
    const startedAt = performance.now();
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let n = next++; n < amount; n = next++) await this.#transact((client) => work(client, n));
      }),
    );
    return amount / ((performance.now() - startedAt) / 1000);
  }

  async statement(sql: string): Promise<void> {
    await this.#pool.query(sql);
  }

  async #transact(work: (client: PoolClient) => Promise<void>): Promise<void> {
    const client = await this.#pool.connect();
    try {
      await client.query("begin");
      await work(client);
      await client.query("commit");
    } finally {
      client.release();
    }
  }
}

const revision = "greatest((extract(epoch from statement_timestamp()) * 1000000)::bigint, revision + 1)";

async function append(client: PoolClient, kind: string, subject: string, payload: object): Promise<void> {
  await client.query("select pg_current_xact_id()");
  await client.query(
    `insert into event_log.event (transaction, position, kind, subject, project, actor, cause, payload)
     values (pg_current_xact_id(), nextval('event_log.event_position'), $1, $2, 'main', 'bench', null, $3)`,
    [kind, subject, payload],
  );
}

/** startedComputerPartition and softwareInstanceError, in turn. */
export async function report(client: PoolClient, key: string, state: "STARTED" | "ERROR"): Promise<void> {
  const computer = key.split("/")[0];
  const { rows } = await client.query(
    "select * from computer.instance where partition_key = $1 and allocation = 'ALLOCATED' and not is_shared for update",
    [key],
  );
  await client.query(`update computer.computer set revision = ${revision} where reference = $1`, [computer]);
  const message = state === "ERROR" ? "a promise fails" : null;
  await client.query("update computer.instance set reported_state = $2 where reference = $1", [
    rows[0].reference,
    state,
  ]);
  await client.query("update computer.partition set state = $2, state_since = now(), message = $3 where key = $1", [
    key,
    state,
    message,
  ]);
  await append(client, "PartitionStateChanged", key, { to: state, instance: rows[0].reference });
}

/** setComputerPartitionConnectionXml with a new value. */
export async function publish(client: PoolClient, key: string, parameters: object): Promise<void> {
  const { rows } = await client.query(
    "select * from computer.instance where partition_key = $1 and allocation = 'ALLOCATED' and not is_shared for update",
    [key],
  );
  await client.query("update computer.instance set connection_parameters = $2 where reference = $1", [
    rows[0].reference,
    parameters,
  ]);
  await client.query(`update computer.computer set revision = ${revision} where reference = $1`, [key.split("/")[0]]);
  await append(client, "ConnectionPublished", rows[0].reference, { keys: Object.keys(parameters) });
}

/** requestComputerPartition of an instance that is there and unchanged. */
export async function requestExisting(client: PoolClient, title: string): Promise<void> {
  await client.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", [title]);
  const { rows } = await client.query(
    `select * from computer.instance where project = 'main' and owner = 'administrator' and parent_reference is null
       and title = $1 and allocation <> 'RELEASED' for update`,
    [title],
  );
  await client.query("select * from computer.partition where key = $1", [rows[0].partition_key]);
}

/** requestComputerPartition of a new one, which gets the first free partition of a computer. */
export async function requestNew(client: PoolClient, title: string, computer: string): Promise<void> {
  await client.query("select pg_advisory_xact_lock(hashtextextended($1, 0))", [title]);
  const {
    rows: [{ number }],
  } = await client.query("select nextval('computer.instance_number') as number");
  const reference = `SOFTINST-${number}`;
  await client.query(
    `insert into computer.instance (reference, number, project, title, root_reference, owner, release_url, software_type,
       is_shared, parameters, filter, requested_state, allocation, pending_reasons, reported_state, connection_parameters, created_at, revision)
     values ($1, $2, 'main', $3, $1, 'administrator', 'r', 'default', false, '{}', $4, 'STARTED', 'PENDING', '[]', 'NONE', '{}', now(), 1)`,
    [reference, number, title, { computer_guid: computer }],
  );
  await append(client, "InstanceRequested", reference, { title });
  await client.query("select reference from computer.computer where reference = $1 and scope = 'OPEN' for update", [
    computer,
  ]);
  const { rows } = await client.query(
    `select key from computer.partition where computer_reference = $1 and state = 'FREE' and is_listed
     order by length(key), key limit 1`,
    [computer],
  );
  const key = rows[0].key;
  await client.query("update computer.instance set allocation = 'ALLOCATED', partition_key = $2 where reference = $1", [
    reference,
    key,
  ]);
  await client.query(
    `update computer.partition set state = 'ALLOCATED', state_since = now(), instance_reference = $2, owner = 'administrator', revision = ${revision} where key = $1`,
    [key, reference],
  );
  await client.query(`update computer.computer set revision = ${revision} where reference = $1`, [computer]);
  await append(client, "PartitionStateChanged", key, { to: "ALLOCATED", instance: reference });
}
