import { AsyncLocalStorage } from "node:async_hooks";
import type { MikroORM } from "@mikro-orm/postgresql";
import { type ErrorCode, toAppError } from "./errors.js";
import type { NewEvent } from "./event-log.js";
import type { Caller } from "./identity.js";
import type { Logger } from "./log.js";
import { dropHourly, dropInSteps, dropStepSize } from "./retention.js";
import type { Statement } from "./session.js";

export type AuditDoor = "GRAPHQL" | "SLAP" | "SHACACHE";

/** A command as a door was asked for it. `caller` is null where a door lets anybody write. */
export interface Command {
  door: AuditDoor;
  /** The mutation, endpoint, method or route. */
  action: string;
  caller: Caller | null;
  requestId: string;
  /** What it is about, as far as the door can tell; what was changed is known better. */
  target: string | null;
}

export interface Running extends Command {
  isRecorded: boolean;
}

const running = new AsyncLocalStorage<Running>();

const maxTargetLength = 200;
/** A caller that is refused in a loop must not push out what others did. */
const maxRefusalsPerMinute = 60;
const maxCallersCounted = 10_000;
const maxRecords = 1_000_000;

/** Not decisions: the one waits for its turn, the others say nothing of who asked or what is allowed. */
const notRefusals = new Set<ErrorCode>(["NOT_READY", "UNAUTHENTICATED", "UNAVAILABLE"]);

export function commandInProgress(): Running | undefined {
  return running.getStore();
}

/** For the transaction that changes something, with its first event: the record is committed with the change or not at all. */
export function changeRecord(command: Running, event: NewEvent): Statement {
  return recordOf(command, { project: event.project, target: event.subject, result: "DONE", code: null });
}

/**
 * Who did what, from which door, with which result. Commands that change something are recorded with the change, those
 * that are refused on their own, before the answer goes out. What changes nothing (a poll, a repeated request) and what
 * no principal asked for leaves no record.
 */
export class AuditTrail {
  readonly #orm: MikroORM;
  readonly #days: number;
  readonly #log: Logger;
  #refusals = new Map<string, number>();
  #minute = 0;

  constructor(orm: MikroORM, days: number, log: Logger) {
    this.#orm = orm;
    this.#days = days;
    this.#log = log;
  }

  /** Runs a command. `codeOf` finds the refusal in an answer that carries it as data. */
  async run<Result>(
    command: Command,
    work: () => Promise<Result>,
    codeOf: (result: Result) => string | null = () => null,
  ): Promise<Result> {
    const state = { ...command, isRecorded: false };
    try {
      const result = await running.run(state, work);
      const code = codeOf(result);
      if (code !== null) await this.#recordRefusal(state, code);
      return result;
    } catch (error) {
      const { code } = toAppError(error);
      if (!notRefusals.has(code)) await this.#recordRefusal(state, code);
      throw error;
    }
  }

  /** The same for what is asked again and again: only what it changes is worth a record. */
  runQuietly<Result>(command: Command, work: () => Promise<Result>): Promise<Result> {
    return running.run({ ...command, isRecorded: false }, work);
  }

  /** Drops old records, and those beyond the newest million, until the signal. */
  retain(signal: AbortSignal): Promise<void> {
    const drop = () => this.dropBefore(new Date(Date.now() - this.#days * 86_400_000));
    return dropHourly("audit records", drop, { signal, log: this.#log });
  }

  dropBefore(time: Date): Promise<number> {
    return dropInSteps(this.#orm, "audit records", async (em) => {
      const rows = await em.execute<object[]>(
        `delete from event_log.audit_record where id in (
           select id from event_log.audit_record where at < ?
             or id <= (select id from event_log.audit_record order by id desc offset ${maxRecords} limit 1)
           order by id limit ${dropStepSize}) returning id`,
        [time],
      );
      return rows.length;
    });
  }

  async #recordRefusal(command: Running, code: string): Promise<void> {
    const { caller } = command;
    if (caller === null || !this.#mayRecord(caller)) return;
    const project = caller.kind === "administrator" ? null : caller.project;
    const result = code === "INTERNAL" ? "FAILED" : "REFUSED";
    try {
      const [sql, parameters] = recordOf(command, { project, target: command.target, result, code });
      await this.#orm.em.fork().execute(sql, parameters);
    } catch (error) {
      this.#log.error({ err: error, requestId: command.requestId }, "a refused command was not recorded");
    }
  }

  #mayRecord(caller: Caller): boolean {
    const minute = Math.floor(Date.now() / 60_000);
    if (minute !== this.#minute || this.#refusals.size > maxCallersCounted) this.#refusals = new Map();
    this.#minute = minute;
    const name = `${caller.kind} ${caller.subject}`;
    const count = (this.#refusals.get(name) ?? 0) + 1;
    this.#refusals.set(name, count);
    if (count === maxRefusalsPerMinute + 1)
      this.#log.warn({ caller: name }, "a caller is refused so often that the audit trail leaves some out");
    return count <= maxRefusalsPerMinute;
  }
}

interface Outcome {
  project: string | null;
  target: string | null;
  result: "DONE" | "REFUSED" | "FAILED";
  code: string | null;
}

function recordOf(command: Command, outcome: Outcome): Statement {
  const { caller, door, action, requestId } = command;
  return [
    `insert into event_log.audit_record
       (actor, actor_kind, token_id, project, door, action, target, result, code, request_id)
     values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    [
      caller?.subject ?? "anonymous",
      caller?.kind ?? "anonymous",
      caller?.tokenId ?? null,
      outcome.project,
      door,
      action,
      outcome.target === null ? null : withoutSecrets(outcome.target).slice(0, maxTargetLength),
      outcome.result,
      outcome.code,
      requestId,
    ],
  ];
}

/** Somebody may name a thing by a secret, by mistake: tokens of every form are taken out, and what no text column holds. */
export function withoutSecrets(text: string): string {
  return text
    .replaceAll(/eyJ[\w-]+\.[\w-]*\.?[\w-]*|\b(reg|sg)_[\w-]{16,}/g, "***")
    .replaceAll(/\/k\/[^/?#\s]+/g, "/k/***")
    .replaceAll("\0", "");
}
