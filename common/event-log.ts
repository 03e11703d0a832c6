import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { type MikroORM, UniqueConstraintViolationException } from "@mikro-orm/postgresql";
import { Client } from "pg";
import { changeRecord, commandInProgress, type Running } from "./audit.js";
import { ConfigError } from "./config.js";
import { type EntityManager, openDatabase } from "./database.js";
import { AppError } from "./errors.js";
import { eventLogMigrations } from "./event-log.migrations.js";
import type { Logger } from "./log.js";
import { consumerBehind, eventHorizon, eventLagSeconds } from "./metrics.js";
import { dropHourly, dropInSteps, dropStepSize } from "./retention.js";
import { inSession, inTransaction, type Session, type Sql, type Statement } from "./session.js";
import { SettlementWatch } from "./settlement-watch.js";

/** What a command appends. `subject` is the natural key of the noun that changed; `payload` stays small. */
export interface NewEvent {
  kind: string;
  subject: string;
  project: string;
  /** Who caused it: the subject of the caller's token, or the name of a consumer. */
  actor: string;
  cause?: string | null;
  payload?: Record<string, unknown>;
  /** The command that it is part of, where several are carried out in one transaction. */
  command?: Running | undefined;
}

export interface LoggedEvent {
  position: number;
  at: Date;
  kind: string;
  subject: string;
  project: string;
  actor: string;
  cause: string | null;
  payload: Record<string, unknown>;
}

export type Append = (...events: NewEvent[]) => Promise<void>;

/** Idempotent: it may see an event again when the process dies between its work and the commit. */
export type ConsumerHandler = (em: EntityManager, events: LoggedEvent[], append: Append) => Promise<void>;

export interface Consumer {
  name: string;
  /** Which events it is handed; others it does not see. */
  concerns: (event: LoggedEvent) => boolean;
  handler: ConsumerHandler;
}

/** How far a consumer is, and what of that is in the database: after a crash it sees the events between again. */
interface Standing {
  position: number;
  kept: number;
}

const channel = "slapgraph_event";
const maxUnkeptPositions = 100;
const pageSize = 500;
/** The newest events kept in memory, so that a thousand followers do not read the same rows a thousand times. */
const recentLimit = 20_000;
/** Older ones are read in blocks of positions that followers which lag together share; so many are kept. */
const blockSize = 1_000;
const blockLimit = 16;
/** LISTEN/NOTIFY is only a hint; this is how long a lost hint delays a reader. */
const pollIntervalMs = 1_000;
/** Longer than a transaction may be idle, so that a stuck one ends first. */
const startTimeoutMs = 40_000;
/** Most transactions that hold back the log end within milliseconds; waiting for one that does not backs off. */
const unsettledPollMs = 5;
const unsettledPollLimitMs = 250;
/** Under load, what is committed within such a time is announced, and read, together. A subscriber waits for it too. */
const gatherMs = 5;
/** The same where no subscriber waits: every process looks, and each look is one transaction more that the others wait for. */
const quietGatherMs = 50;
const retryBaseMs = 100;
const retryLimitMs = 5_000;
const deadlockRetries = 5;
export const defaultRetentionMs = 7 * 24 * 3_600_000;
const firstRetentionMs = 60_000;

/**
 * The one append-only log, read in commit order.
 *
 * A position is taken from a sequence while the transaction holds the locks of what it changes, so for any one noun the
 * order of positions is the order of commits. Across transactions a lower position may commit later than a higher one:
 * readers therefore stop at the horizon, the last event before which nothing can appear any more (SettlementWatch).
 */
export class EventLog {
  readonly #orm: MikroORM;
  readonly #url: string;
  readonly #log: Logger;
  readonly #retentionMs: number;
  /** Who waits for the horizon to move, or for the end. */
  readonly #waiting = new Set<() => void>();
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>[] = [];
  readonly #watch = new SettlementWatch();
  #horizon = 0;
  /** The settled position up to which events were read; beyond the horizon where transactions rolled back. */
  #lookedUpTo = 0;
  #recent: LoggedEvent[] = [];
  /** Every settled event after this position is in `#recent`. */
  #recentAfter = 0;
  readonly #blocks = new Map<number, Promise<LoggedEvent[]>>();
  /** The newest page that was asked for: of a thousand followers most ask for the same. */
  #lastPage: { after: number; limit: number; horizon: number; events: readonly LoggedEvent[] } | undefined;
  #isHinted = false;
  #endWait: () => void = () => undefined;
  /** Marks hints as this log's own, which has been told already. */
  readonly #id = randomUUID();
  #isHintPending = false;
  #hintedAt = 0;
  #followers = 0;

  private constructor(orm: MikroORM, url: string, log: Logger, retentionMs: number) {
    this.#retentionMs = retentionMs;
    this.#orm = orm;
    this.#url = url;
    this.#log = log;
  }

  static async open(url: string, log: Logger, retentionMs = defaultRetentionMs): Promise<EventLog> {
    const orm = await openDatabase({
      url,
      schema: "event_log",
      entities: [],
      migrations: eventLogMigrations,
      poolSize: 4,
      log,
    });
    const eventLog = new EventLog(orm, url, log, retentionMs);
    try {
      await eventLog.#start();
    } catch (error) {
      await orm.close(true);
      throw error;
    }
    eventLog.#running.push(eventLog.#tail(), eventLog.#listen(), eventLog.#retain());
    return eventLog;
  }

  get isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  get orm(): MikroORM {
    return this.#orm;
  }

  /** The last event up to which the log is settled and readable. */
  get horizon(): number {
    return this.#horizon;
  }

  /**
   * One transaction: what `work` changes, the events it appends and the record of the command that it is part of are
   * committed together or not at all. Retried on a deadlock or a lost race for a unique name, so `work` must have no effect outside its transaction.
   */
  async transact<T>(orm: MikroORM, work: (em: EntityManager, append: Append) => Promise<T>): Promise<T> {
    const command = commandInProgress();
    return this.#transact((events) =>
      orm.em.fork().transactional(async (em) => {
        const done = await work(
          em as EntityManager,
          async (...more) => void events.push(...more.map((event) => ({ ...event, command }))),
        );
        await em.flush();
        for (const [sql, parameters] of lastStatements(events)) await em.execute(sql, parameters);
        return done;
      }),
    );
  }

  /** The same past the unit of work. It may be about several commands at once, so that an event names its own. */
  async transactSql<T>(orm: MikroORM, work: (session: Session, append: Append) => Promise<T>): Promise<T> {
    return this.#transact((events) =>
      inTransaction(orm, async (session) => {
        const done = await work(session, async (...more) => void events.push(...more));
        for (const [sql, parameters] of lastStatements(events)) session.send(sql, parameters);
        return done;
      }),
    );
  }

  async #transact<T>(run: (events: NewEvent[]) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const events: NewEvent[] = [];
      try {
        const result = await run(events);
        for (const { command } of events) if (command) command.isRecorded = true;
        if (events.length > 0) this.#hint();
        return result;
      } catch (error) {
        if (attempt >= deadlockRetries || !isLostRace(error)) throw error;
        await delay(Math.random() * 10 * attempt);
      }
    }
  }

  /** Settled events after a position, in order. RESUME_EXPIRED when some of them are no longer kept. */
  async readAfter(position: number, limit = pageSize): Promise<readonly LoggedEvent[]> {
    if (position >= this.#horizon) return [];
    if (position >= this.#recentAfter) return this.#recentPage(position, limit);
    const rows = await this.#readOlder(position, limit);
    // Asked after the read: a slow reader must not take what retention dropped under it for events that never were.
    await this.assertReadable(position);
    return rows;
  }

  #recentPage(after: number, limit: number): readonly LoggedEvent[] {
    const last = this.#lastPage;
    if (last?.after === after && last.limit === limit && last.horizon === this.#horizon) return last.events;
    const start = firstIndexAfter(this.#recent, after);
    const events = this.#recent.slice(start, start + limit);
    this.#lastPage = { after, limit, horizon: this.#horizon, events };
    return events;
  }

  /** A page that is not full ends at the horizon, as consumers rely on: what a block lacks is read on its own. */
  async #readOlder(position: number, limit: number): Promise<LoggedEvent[]> {
    const block = await this.#blockWith(position);
    const start = firstIndexAfter(block, position);
    const events = block.slice(start, start + limit);
    if (events.length === limit) return events;
    const from = events.at(-1)?.position ?? position;
    return [...events, ...(await this.#readRows(from, this.#horizon, limit - events.length))];
  }

  /** The events of the block that a position is in the middle of; none where it is not settled whole. */
  async #blockWith(position: number): Promise<LoggedEvent[]> {
    const number = Math.floor(position / blockSize);
    const end = (number + 1) * blockSize;
    if (end > this.#horizon) return [];
    const known = this.#blocks.get(number);
    const block = known ?? this.#readRows(end - blockSize, end, blockSize);
    this.#blocks.delete(number);
    this.#blocks.set(number, block);
    const [oldest] = this.#blocks.keys();
    if (oldest !== undefined && this.#blocks.size > blockLimit) this.#blocks.delete(oldest);
    try {
      return await block;
    } catch (error) {
      if (this.#blocks.get(number) === block) this.#blocks.delete(number);
      throw error;
    }
  }

  /** RESUME_EXPIRED unless every event after the position is still kept and the position is one of this log. */
  async assertReadable(position: number): Promise<void> {
    const [row] = await this.#orm.em
      .fork()
      .execute<{ kept_after: string; last_value: string }[]>(
        "select (select kept_after from event_log.retention) as kept_after, (select last_value from event_log.event_position) as last_value",
      );
    if (!row || position < Number(row.kept_after) || position > Number(row.last_value)) {
      throw new AppError(
        "RESUME_EXPIRED",
        "The events after this cursor are no longer kept. Read the present state, then subscribe without a cursor.",
      );
    }
  }

  /**
   * Drops settled events older than a time, in bounded steps, and never one that a consumer has not handled. Cursors before
   * the last dropped event expire. One replica at a time. Returns how many were dropped.
   */
  dropBefore(time: Date): Promise<number> {
    return dropInSteps(this.#orm, "events", async (em) => {
      const rows = await em.execute<{ position: string }[]>(
        `delete from event_log.event where position in (
           select position from event_log.event
           where at < ? and position <= ? and position <= coalesce((select min(position) from event_log.consumer), ?)
           order by position limit ${dropStepSize}) returning position`,
        [time, this.#horizon, this.#horizon],
      );
      const last = rows.reduce((most, row) => Math.max(most, Number(row.position)), 0);
      await em.execute("update event_log.retention set kept_after = greatest(kept_after, ?)", [last]);
      return rows.length;
    });
  }

  /** Resolves when the horizon has moved past a position, or at the timeout; rejects when the signal aborts. */
  async waitPast(position: number, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    signal.throwIfAborted();
    if (this.isStopping) throw stopping();
    if (this.#horizon > position) return true;
    // A plain timer and a set, all taken back: this runs twice a second for every subscriber.
    return new Promise<boolean>((resolve, reject) => {
      const finish = (settle: () => void) => {
        clearTimeout(timer);
        this.#waiting.delete(onMoved);
        signal.removeEventListener("abort", onAbort);
        settle();
      };
      const onMoved = () => {
        if (this.isStopping) finish(() => reject(stopping()));
        else if (this.#horizon > position) finish(() => resolve(true));
      };
      const onAbort = () => finish(() => reject(signal.reason));
      const timer = setTimeout(() => finish(() => resolve(false)), timeoutMs);
      this.#waiting.add(onMoved);
      signal.addEventListener("abort", onAbort);
    });
  }

  /** Says that somebody waits for each event as it comes, until what is returned is called. */
  beginFollowing(): () => void {
    this.#followers++;
    return () => void this.#followers--;
  }

  /** Runs a durable consumer until the log closes. One replica at a time; the position moves in the handler's transaction. */
  consume(orm: MikroORM, consumer: Consumer): void {
    this.#running.push(this.#runConsumer(orm, consumer));
  }

  async ping(): Promise<void> {
    await this.#orm.em.fork().execute("select 1");
  }

  /** Ends the consumers and every follower, before the databases that they write to are closed. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wakeTail();
    this.#tellMoved();
    await Promise.all(this.#running);
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#orm.close(true);
  }

  async #runConsumer(orm: MikroORM, consumer: Consumer): Promise<void> {
    const { signal } = this.#stopping;
    let failures = 0;
    let stands: Standing | null = null;
    while (!signal.aborted) {
      try {
        const passed: Standing | null = stands && (await this.#passOver(consumer, stands));
        stands = passed ?? (await this.#consumeOnce(orm, consumer));
        failures = 0;
        consumerBehind.set(
          { consumer: consumer.name },
          Math.max(0, this.#horizon - (stands?.position ?? this.#horizon)),
        );
        if (stands === null) await delay(pollIntervalMs, undefined, { signal });
        else {
          if (!passed && stands.position >= this.#horizon) await delay(quietGatherMs, undefined, { signal });
          await this.waitPast(stands.position, pollIntervalMs, signal);
        }
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        this.#log.error(
          { err: error, consumer: consumer.name, failures },
          "an event consumer failed and will try again",
        );
        await delay(Math.min(retryBaseMs * 2 ** failures, retryLimitMs), undefined, { signal }).catch(() => undefined);
      }
    }
  }

  /** Goes on without a transaction while nothing comes that concerns the consumer; what is kept may lag by a bound. */
  async #passOver({ concerns }: Consumer, { position, kept }: Standing): Promise<Standing | null> {
    const { events, to } = await this.#pageAfter(position);
    if (to - kept > maxUnkeptPositions || events.some(concerns)) return null;
    return { position: to, kept };
  }

  /** Where it stands after one page, or null when another replica holds the consumer. */
  async #consumeOnce(orm: MikroORM, { name, concerns, handler }: Consumer): Promise<Standing | null> {
    return this.transact(orm, async (em, append) => {
      const [row] = await em.execute<{ position: string }[]>(
        "select position from event_log.consumer where name = ? for update skip locked",
        [name],
      );
      if (!row) {
        await em.execute("insert into event_log.consumer (name) values (?) on conflict do nothing", [name]);
        return null;
      }
      const { events, to } = await this.#pageAfter(Number(row.position));
      const own = events.filter(concerns);
      if (own.length > 0) await handler(em, own, append);
      await em.execute("update event_log.consumer set position = ? where name = ?", [to, name]);
      return { position: to, kept: to };
    });
  }

  /** A page of settled events, and the position up to which there are no others. */
  async #pageAfter(position: number): Promise<{ events: readonly LoggedEvent[]; to: number }> {
    const horizon = this.#horizon;
    const events = await this.readAfter(position);
    const last = events.at(-1)?.position ?? position;
    // A page that is not full was read up to some horizon of ours, at least the one noted before.
    return { events, to: events.length < pageSize ? Math.max(horizon, last) : last };
  }

  /** Moves the horizon as far as the log is settled. True while something is appended that is not settled yet. */
  async #advance(): Promise<boolean> {
    // What follows is read behind the look, so that whatever has settled is in it.
    const [settled, next] = await inSession(this.#orm, (session) =>
      Promise.all([this.#watch.look(session), readRows(session, this.#horizon, Number.MAX_SAFE_INTEGER, pageSize)]),
    );
    if (settled > this.#lookedUpTo) {
      const added = await this.#remember(settled, next);
      this.#lookedUpTo = settled;
      // The horizon is an event, not a mere position: what a crash makes the sequence give out again is never below it.
      this.#horizon = added ?? this.#horizon;
      eventHorizon.set(this.#horizon);
      if (added !== null) this.#tellMoved();
    }
    return this.#watch.isWaiting;
  }

  #tellMoved(): void {
    for (const tell of [...this.#waiting]) tell();
  }

  /** A reader that starts has read whatever is settled by now. */
  async #start(): Promise<void> {
    const em = this.#orm.em.fork();
    const deadline = Date.now() + startTimeoutMs;
    let settled = await this.#watch.look(em);
    while (settled === 0 && this.#watch.isWaiting) {
      if (Date.now() > deadline)
        throw new ConfigError(`A transaction has held back the event log for ${startTimeoutMs / 1000} s. End it.`);
      await delay(unsettledPollMs);
      settled = await this.#watch.look(em);
    }
    this.#lookedUpTo = settled;
    const [row] = await em.execute<{ horizon: string }[]>(
      `select greatest(kept_after, (select max(position) from event_log.event where position <= ?)) as horizon
       from event_log.retention`,
      [settled],
    );
    this.#horizon = Number(row?.horizon ?? 0);
    this.#recentAfter = this.#horizon;
  }

  /**
   * Takes over the events up to a settled position, all at once or, when reading them fails, not at all. Only the newest
   * are kept. Returns the position of the last of them, or null if the positions were of transactions that rolled back.
   */
  async #remember(to: number, next: readonly LoggedEvent[]): Promise<number | null> {
    let added = next.filter(({ position }) => position <= to);
    let after = this.#recentAfter;
    for (let from = added.length < pageSize ? to : (added.at(-1)?.position ?? to); from < to; ) {
      const page = await this.#readRows(from, to, pageSize);
      added.push(...page);
      from = page.length < pageSize ? to : (page.at(-1)?.position ?? to);
      if (added.length > 2 * recentLimit) {
        after = added.at(-recentLimit - 1)?.position ?? after;
        added = added.slice(-recentLimit);
      }
    }
    if (after > this.#recentAfter) this.#recent = added;
    else for (const event of added) this.#recent.push(event);
    this.#recentAfter = after;
    const excess = this.#recent.length - recentLimit;
    // Not at each event: that would copy the whole each time.
    if (excess > recentLimit / 4) {
      this.#recentAfter = this.#recent[excess - 1]?.position ?? after;
      this.#recent = this.#recent.slice(excess);
    }
    const last = added.at(-1);
    if (last) eventLagSeconds.observe(Math.max(0, (Date.now() - last.at.getTime()) / 1000));
    return last?.position ?? null;
  }

  async #readRows(after: number, upTo: number, limit: number): Promise<LoggedEvent[]> {
    return inSession(this.#orm, (session) => readRows(session, after, upTo, limit));
  }

  async #tail(): Promise<void> {
    const { signal } = this.#stopping;
    let unsettledMs = unsettledPollMs;
    while (!signal.aborted) {
      let waitMs = pollIntervalMs;
      const lookedAt = performance.now();
      const before = this.#lookedUpTo;
      this.#isHinted = false;
      try {
        const isWaiting = await this.#advance();
        unsettledMs =
          isWaiting && this.#lookedUpTo === before
            ? Math.min(unsettledMs * 1.5, unsettledPollLimitMs)
            : unsettledPollMs;
        if (isWaiting) waitMs = unsettledMs;
      } catch (error) {
        if (!signal.aborted) this.#log.warn({ err: error }, "the event log cannot be read just now");
      }
      // A hint that came during the look may be of something that it was too early for.
      if (!this.#isHinted && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, waitMs);
          this.#endWait = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      const earlyMs = lookedAt + (this.#followers > 0 ? gatherMs : quietGatherMs) - performance.now();
      if (earlyMs > 0 && !signal.aborted) await delay(earlyMs);
    }
  }

  #wakeTail(): void {
    this.#isHinted = true;
    this.#endWait();
  }

  /** Drops what is older than events are kept. */
  #retain(): Promise<void> {
    const drop = () => this.dropBefore(new Date(Date.now() - this.#retentionMs));
    const { signal } = this.#stopping;
    return dropHourly("events", drop, { signal, log: this.#log, firstAfterMs: firstRetentionMs });
  }

  /** Told after the commit and outside it: NOTIFY inside a transaction would make all commits wait for one another. */
  #hint(): void {
    this.#wakeTail();
    if (this.#isHintPending) return;
    this.#isHintPending = true;
    setTimeout(
      () => {
        this.#isHintPending = false;
        this.#hintedAt = performance.now();
        if (this.#stopping.signal.aborted) return;
        const telling = inSession(this.#orm, (session) =>
          session.execute("select pg_notify(?, ?)", [channel, this.#id]),
        );
        telling.catch((error) => this.#log.debug({ err: error }, "a hint to other processes was lost"));
      },
      Math.max(0, this.#hintedAt + gatherMs - performance.now()),
    );
  }

  async #listen(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const client = new Client({ connectionString: this.#url, connectionTimeoutMillis: 5_000, keepAlive: true });
      const ended = new Promise<void>((resolve) => {
        client.once("end", resolve);
        client.once("error", () => resolve());
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
      try {
        await client.connect();
        client.on("notification", ({ payload }) => {
          if (payload !== this.#id) this.#wakeTail();
        });
        await client.query(`listen ${channel}`);
        // The database may have crashed since, and have forgotten positions and ids that were seen and not yet committed.
        this.#watch.forget(this.#horizon);
        this.#lookedUpTo = this.#horizon;
        this.#wakeTail();
        await ended;
      } catch (error) {
        if (!signal.aborted) this.#log.warn({ err: error }, "listening for event hints failed; polling goes on");
      }
      await client.end().catch(() => undefined);
      if (!signal.aborted) await delay(retryBaseMs, undefined, { signal }).catch(() => undefined);
    }
  }
}

function stopping(): AppError {
  return new AppError("UNAVAILABLE", "The service is stopping. Connect again.");
}

async function readRows(sql: Sql, after: number, upTo: number, limit: number): Promise<LoggedEvent[]> {
  const rows = await sql.execute<EventRow[]>(
    `select position, at, kind, subject, project, actor, cause, payload from event_log.event
     where position > ? and position <= ? order by position limit ?`,
    [after, upTo, limit],
  );
  return rows.map(toLoggedEvent);
}

interface EventRow extends Omit<LoggedEvent, "position" | "at"> {
  position: string;
  at: string | Date;
}

function toLoggedEvent(row: EventRow): LoggedEvent {
  return { ...row, position: Number(row.position), at: new Date(row.at) };
}

/** What a transaction ends with: its commands' records, and its events, whose positions are taken when all that changes is locked. */
function lastStatements(events: readonly NewEvent[]): Statement[] {
  if (events.length === 0) return [];
  const first = new Map<Running, NewEvent>();
  for (const event of events)
    if (event.command && !event.command.isRecorded && !first.has(event.command)) first.set(event.command, event);
  const rows = events.map(({ command, ...event }) => event);
  return [
    ...Array.from(first, ([command, event]) => changeRecord(command, event)),
    [appendEvents, [JSON.stringify(rows)]],
  ];
}

/** The transaction's id is there before a position is taken, so that whatever holds a position also has an id by then. */
const appendEvents = `
  insert into event_log.event (transaction, position, kind, subject, project, actor, cause, payload)
  select own.id, nextval('event_log.event_position'), e.kind, e.subject, e.project, e.actor, e.cause, coalesce(e.payload, '{}')
  from (select pg_current_xact_id() as id offset 0) own,
    jsonb_to_recordset(?::jsonb) as e (kind text, subject text, project text, actor text, cause text, payload jsonb)`;

function firstIndexAfter(events: LoggedEvent[], position: number): number {
  let low = 0;
  for (let high = events.length; low < high; ) {
    const middle = (low + high) >> 1;
    if ((events[middle]?.position ?? 0) > position) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A deadlock, a serialization failure, or two requests that made the same name at once: the loser sees the winner's on a second look. */
function isLostRace(error: unknown): boolean {
  if (error instanceof UniqueConstraintViolationException) return true;
  const code = (error as { code?: unknown }).code;
  return code === "40P01" || code === "40001" || code === "23505";
}
