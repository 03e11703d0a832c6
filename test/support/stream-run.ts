import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "graphql-ws";
import { Client } from "pg";
import WebSocket from "ws";
import { decodeCursor } from "../../common/event-stream.js";
import { readRows } from "./ledger.js";
import type { MemoryWatch, ServiceMemory } from "./memory-run.js";
import type { RunningSystem } from "./running-system.js";
import { waitFor } from "./wait-for.js";

export interface StreamRunOptions {
  system: RunningSystem;
  /** Each a computer's node, which hears of its own partitions; beside them one that hears everything. */
  subscriberCount: number;
  eventsPerSecond: number;
  seconds: number;
  /** What looks at the memory, where it is looked at. */
  memory?: MemoryWatch;
}

export interface StreamReport {
  events: number;
  delivered: number;
  /** Streams that are not exactly what the log holds for them. */
  unequal: string[];
  /** From the last append until all had everything. */
  behindMs: number;
  /** Garbage is collected once the newest events that are kept in memory are as many as they get, and at the end. */
  memory: ServiceMemory[];
}

const query = "subscription ($after: String) { partitionStateChanged(after: $after) { cursor change { to } } }";
const appendIntervalMs = 50;
const tokensAtOnce = 20;
const catchUpTimeoutMs = 120_000;
const memorySamples = 12;
/** After this part of the time all is warm. */
const warmUpPart = 1 / 3;

/** Many subscribers over WebSocket and a steady stream of events, and afterwards each compared with the log. */
export async function runStreams({
  system,
  subscriberCount,
  eventsPerSecond,
  seconds,
  memory: watch,
}: StreamRunOptions): Promise<StreamReport> {
  const followers = [new Follower(system, system.adminToken, "%")];
  const prefix = `FAN-${process.pid}`;
  for (let from = 0; from < subscriberCount; from += tokensAtOnce) {
    const size = Math.min(tokensAtOnce, subscriberCount - from);
    await Promise.all(
      Array.from({ length: size }, async (_, index) => {
        const reference = `${prefix}-${from + index}`;
        const { createComputer } = await system.graphql<{ createComputer: { credential: string } }>(
          "mutation ($reference: String!) { createComputer(input: { reference: $reference }) { credential } }",
          { reference },
        );
        followers.push(new Follower(system, createComputer.credential, `${reference}/%`));
      }),
    );
  }
  await waitFor(() => followers.filter((one) => one.first === null).length, {
    until: (count) => count === 0,
    timeoutMs: catchUpTimeoutMs,
    what: "open subscriptions",
  });

  const database = new Client({ connectionString: system.databaseUrl });
  await database.connect();
  const memory = watch?.begin(system) ?? [];
  let isWarm = false;
  const startedAt = performance.now();
  let events = 0;
  for (let nextSampleMs = 0; ; ) {
    const elapsedMs = performance.now() - startedAt;
    if (elapsedMs >= nextSampleMs) {
      watch?.sample(system, memory);
      nextSampleMs += (seconds * 1000) / memorySamples;
    }
    if (!isWarm && elapsedMs >= seconds * 1000 * warmUpPart) {
      isWarm = true;
      await watch?.collect(system, memory);
    }
    const due = Math.min(Math.floor((elapsedMs / 1000) * eventsPerSecond), seconds * eventsPerSecond);
    if (due > events) await append(database, prefix, subscriberCount, events, due - events);
    events = due;
    if (due === seconds * eventsPerSecond) break;
    await delay(appendIntervalMs);
  }
  await database.end();
  const appendedAt = performance.now();
  const logged = await readRows<{ position: string; subject: string }>(
    system.databaseUrl,
    "select position, subject from event_log.event where kind = 'PartitionStateChanged' and subject like $1 order by position",
    [`${prefix}-%`],
  );
  const unequal: string[] = [];
  for (const follower of followers) {
    const expected = logged.filter(({ subject }) => follower.isAbout(subject)).map(({ position }) => Number(position));
    await waitFor(() => follower.positions.length, {
      until: (length) => length >= expected.length,
      timeoutMs: catchUpTimeoutMs,
      what: `${expected.length} events of ${follower.subjects}`,
    }).catch((error: Error) => unequal.push(error.message));
    if (follower.positions.join() !== expected.join()) unequal.push(follower.subjects);
  }
  const behindMs = Math.round(performance.now() - appendedAt);
  watch?.sample(system, memory);
  await watch?.collect(system, memory);
  const delivered = followers.reduce((sum, { positions }) => sum + positions.length, 0);
  for (const follower of followers) follower.close();
  return { events, delivered, unequal, behindMs, memory };
}

/** One subscriber with a connection of its own, and the positions that it was told. */
class Follower {
  readonly positions: number[] = [];
  first: string | null = null;
  readonly close: () => void;

  constructor(
    system: RunningSystem,
    token: string,
    readonly subjects: string,
  ) {
    const client = createClient({
      url: `${system.gatewayUrl.replace("http", "ws")}/graphql`,
      webSocketImpl: WebSocket,
      retryAttempts: 0,
      connectionParams: { authorization: `Bearer ${token}` },
    });
    const done = client.subscribe<{ partitionStateChanged: { cursor: string; change: object | null } }>(
      { query },
      {
        next: ({ data }) => {
          if (!data) return;
          this.first ??= data.partitionStateChanged.cursor;
          if (data.partitionStateChanged.change) this.positions.push(decodeCursor(data.partitionStateChanged.cursor));
        },
        error: () => undefined,
        complete: () => undefined,
      },
    );
    this.close = () => {
      done();
      void client.dispose();
    };
  }

  isAbout(subject: string): boolean {
    return subject.startsWith(this.subjects.slice(0, -1));
  }
}

/** Of the computers in turn, as their reports would be, in one statement with its hint: the streams are what is tried here. */
async function append(database: Client, prefix: string, computers: number, from: number, count: number): Promise<void> {
  await database.query(
    `insert into event_log.event (transaction, position, kind, subject, project, actor, payload)
     select pg_current_xact_id(), nextval('event_log.event_position'), 'PartitionStateChanged',
       $1 || '-' || (i % $2::int) || '/slappart0', 'main', 'bench', '{"from": "STARTED", "to": "ERROR", "instance": null, "owner": null}'
     from generate_series($3::int, $3::int + $4::int - 1) as i`,
    [prefix, computers, from, count],
  );
  await database.query("select pg_notify('slapgraph_event', '')");
}
