import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import type { LoggedEvent } from "../../../common/event-log.js";
import { type Caller, isMember, mayReadAll } from "../../../common/identity.js";
import { Rows } from "../../../common/rows.js";
import { textArray } from "../../../common/session.js";
import { SharedReads } from "../../../common/shared-reads.js";
import {
  applyHealthEvent,
  type HealthEvent,
  healthEventKinds,
  type PartitionHealth,
  shownHealth,
} from "./health.state.js";
import { ComputerLivenessEntity, PartitionHealthEntity } from "./partition-health.entity.js";

export interface KnownComputer {
  reference: string;
  project: string;
  liveness: string;
}

export class HealthService {
  readonly #orm: MikroORM;
  /** Every subscriber that hears of a change asks for the same at the same time. */
  readonly #shown = new SharedReads((keys: string[]) => this.#readShown(keys));

  constructor(orm: MikroORM) {
    this.#orm = orm;
  }

  /**
   * The health of partitions as of every committed event, however far the consumer is: the projection, with the events
   * after it folded on top. So whoever was just told of an event reads the health that this event made, or a later one.
   */
  async healthOf(caller: Caller, keys: readonly string[]): Promise<(PartitionHealth | null)[]> {
    const shown = await this.#shown.load(keys);
    return keys.map((key) => {
      const health = shown.get(key);
      return health && maySee(caller, health) ? health : null;
    });
  }

  async #readShown(keys: readonly string[]): Promise<Map<string, PartitionHealth>> {
    const em = this.#orm.em.fork();
    const known = await this.currentHealth(em, keys);
    const computers = await this.currentComputers(em, [...new Set(keys.map(computerOf))]);
    for (const [key, health] of known) {
      const { liveness } = computers.get(computerOf(key)) ?? {};
      known.set(key, { ...health, health: shownHealth(health.health, liveness) });
    }
    return known;
  }

  /** Without regard to who asks: the callers' rights are checked by whoever uses it. */
  async currentHealth(em: EntityManager, keys: readonly string[]): Promise<Map<string, PartitionHealth>> {
    const known = await projectedHealth(em, keys);
    const oldest = keys.reduce(
      (least, key) => Math.min(least, known.get(key)?.appliedPosition ?? 0),
      Number.MAX_SAFE_INTEGER,
    );
    for (const event of await readEvents(em, keys, healthEventKinds, oldest)) {
      const health = applyHealthEvent(known.get(event.subject) ?? null, event);
      if (health) known.set(event.subject, health);
    }
    return known;
  }

  async currentComputers(em: EntityManager, references: readonly string[]): Promise<Map<string, KnownComputer>> {
    const projected = await projectedPosition(em);
    const rows = await em.find(ComputerLivenessEntity, { reference: { $in: [...references] } });
    const known = new Map(
      rows.map(({ reference, project, liveness }) => [reference, { reference, project, liveness }]),
    );
    const applied = new Map(rows.map((row) => [row.reference, row.appliedPosition]));
    for (const event of await readEvents(em, references, computerEventKinds, projected)) {
      if (event.position > (applied.get(event.subject) ?? 0)) known.set(event.subject, toComputer(event));
    }
    return known;
  }

  /** The partition that an instance is in, as far as the projection knows it; a lookup by instance precedes every command. */
  async partitionOfInstance(em: EntityManager, instanceReference: string): Promise<string | null> {
    const projected = await projectedPosition(em);
    const row = await em.findOne(PartitionHealthEntity, { instanceReference });
    if (row) return row.key;
    const [event] = await em.execute<{ subject: string }[]>(
      `select subject from event_log.event where kind = 'PartitionStateChanged' and payload->>'instance' = ? and position > ?
       order by position desc limit 1`,
      [instanceReference, projected],
    );
    return event?.subject ?? null;
  }

  /** Consumer: brings the projection up to the events. Idempotent by position. */
  async project(em: EntityManager, events: LoggedEvent[]): Promise<void> {
    for (const event of events)
      if ((computerEventKinds as readonly string[]).includes(event.kind)) await projectComputer(em, event);
    await projectPartitions(
      em,
      events.filter(({ kind }) => (healthEventKinds as readonly string[]).includes(kind)),
    );
  }
}

export const consumerName = "monitoring";

/**
 * How far the projection is, at the least. It is read before the projection: what is projected between the two is folded
 * again from the events, which changes nothing, while read after it an event could fall between the two.
 */
async function projectedPosition(em: EntityManager): Promise<number> {
  const [row] = await em.execute<{ position: string }[]>("select position from event_log.consumer where name = ?", [
    consumerName,
  ]);
  return Number(row?.position ?? 0);
}

const computerEventKinds = ["ComputerCreated", "ComputerStateChanged"] as const;

/** What the projection is made of. */
export const projectedKinds: readonly string[] = [...computerEventKinds, ...healthEventKinds];

async function projectComputer(em: EntityManager, event: LoggedEvent): Promise<void> {
  const row = await em.findOne(ComputerLivenessEntity, { reference: event.subject });
  if (row && row.appliedPosition >= event.position) return;
  const { liveness, project, reference } = toComputer(event);
  await em.upsert(ComputerLivenessEntity, { reference, project, liveness, appliedPosition: event.position });
}

/** In order, and each partition is read and written once however many of the events are about it. */
async function projectPartitions(em: EntityManager, events: readonly LoggedEvent[]): Promise<void> {
  if (events.length === 0) return;
  const known = await projectedHealth(em, new Set(events.map(({ subject }) => subject)));
  const changed = new Set<string>();
  for (const event of events) {
    const health = applyHealthEvent(known.get(event.subject) ?? null, event);
    if (health?.appliedPosition !== event.position) continue;
    known.set(event.subject, health);
    changed.add(event.subject);
  }
  const written = [...changed].flatMap((key) => known.get(key) ?? []);
  if (written.length === 0) return;
  await em.execute(
    `insert into monitoring.partition_health
       (key, project, owner, instance_reference, health, since, message, applied_position)
     select key, project, owner, "instanceReference", health, since, message, "appliedPosition"
     from jsonb_to_recordset(?::jsonb) as h (key text, project text, owner text, "instanceReference" text, health text,
       since timestamptz, message text, "appliedPosition" bigint)
     on conflict (key) do update set project = excluded.project, owner = excluded.owner,
       instance_reference = excluded.instance_reference, health = excluded.health, since = excluded.since,
       message = excluded.message, applied_position = excluded.applied_position`,
    [JSON.stringify(written)],
  );
}

const healthRows = new Rows(PartitionHealthEntity);

async function projectedHealth(em: EntityManager, keys: Iterable<string>): Promise<Map<string, PartitionHealth>> {
  const rows = await em.execute<Record<string, unknown>[]>(
    `select ${healthRows.columns(em, "h")} from monitoring.partition_health h where h.key = any(?::text[])`,
    [textArray(keys)],
  );
  return new Map(
    rows.map((row) => {
      const health = healthRows.read(em, "h", row) as PartitionHealth;
      return [health.key, health];
    }),
  );
}

function toComputer(event: HealthEvent): KnownComputer {
  const liveness = event.kind === "ComputerCreated" ? "UNSEEN" : String(event.payload.to);
  return { reference: event.subject, project: event.project, liveness };
}

/** Committed events of these subjects after a position; the index over subject and position finds them. */
async function readEvents(
  em: EntityManager,
  subjects: readonly string[],
  kinds: readonly string[],
  after: number,
): Promise<HealthEvent[]> {
  if (subjects.length === 0) return [];
  const rows = await em.execute<(Omit<HealthEvent, "position" | "at"> & { position: string; at: string })[]>(
    `select position, at, kind, subject, project, cause, payload from event_log.event
     where subject = any(?::text[]) and kind = any(?::text[]) and position > ? order by position`,
    [textArray(subjects), textArray(kinds), after],
  );
  return rows.map((row) => ({ ...row, position: Number(row.position), at: new Date(row.at) }));
}

export function computerOf(partitionKey: string): string {
  return partitionKey.slice(0, partitionKey.indexOf("/"));
}

/** Owners and viewers see all of their project, users what holds their instances, nodes and instances themselves. */
export function maySee(
  caller: Caller,
  partition: Pick<PartitionHealth, "key" | "project" | "owner" | "instanceReference">,
): boolean {
  if (caller.kind === "administrator" || mayReadAll(caller, partition.project)) return true;
  if (caller.project !== partition.project) return false;
  if (caller.kind === "person") return partition.owner === caller.subject;
  if (caller.kind === "node") return computerOf(partition.key) === caller.subject;
  return partition.instanceReference === caller.subject;
}

export function maySeeComputer(caller: Caller, computer: { reference: string; project: string }): boolean {
  if (isMember(caller, computer.project)) return true;
  return caller.kind === "node" && caller.project === computer.project && caller.subject === computer.reference;
}
