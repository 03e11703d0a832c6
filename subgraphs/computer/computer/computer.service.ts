import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { type Caller, mayOwn, projectOf, requireOwner, type TokenAuthority } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { computerAttributes } from "../instance/allocate.js";
import { type InterfaceAddress, PartitionEntity, type RoutedAddress } from "../partition/partition.entity.js";
import { lockComputer, raiseComputer } from "../revision.js";
import { speaksForComputer, visibleComputers } from "../visibility.js";
import { ComputerEntity } from "./computer.entity.js";
import { type LivenessThresholds, livenessAt, type Scope } from "./computer.state.js";

export type ComputerRow = InferEntity<typeof ComputerEntity>;

export interface NewComputer {
  reference?: string | null | undefined;
  title?: string | null | undefined;
  project?: string | null | undefined;
}

/** What a node says of itself when it formats (slapos node format). */
export interface FormatReport {
  reference: string;
  slaposVersion: string | null;
  pythonVersion: string | null;
  osType: string | null;
  partitions: {
    reference: string;
    addresses: InterfaceAddress[];
    routedAddresses: RoutedAddress[];
    capabilities: string[];
  }[];
}

const tokenLifetimeSeconds = 3650 * 86_400;
const sweepBatch = 500;
export const maxPartitions = 10_000;

export class ComputerService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #tokens: TokenAuthority;
  /** When each node's contact was last written, so that a poll does not write. */
  readonly #contactWrittenAt = new Map<string, number>();

  constructor(orm: MikroORM, eventLog: EventLog, tokens: TokenAuthority) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#tokens = tokens;
  }

  /** Owners add computers to their project. The credential leaves here once: identity learns of it by the event. */
  async createComputer(caller: Caller, input: NewComputer): Promise<{ row: ComputerRow; credential: string }> {
    const project = projectOf(caller, input.project);
    requireOwner(caller, project, "Creating a computer");
    if (input.reference != null && !/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(input.reference)) {
      throw new AppError(
        "BAD_USER_INPUT",
        "A reference is 1 to 64 of letters, digits and . _ -, beginning with a letter or digit.",
        {
          details: { path: ["input", "reference"] },
        },
      );
    }
    if ((input.title?.length ?? 0) > 200) {
      throw new AppError("BAD_USER_INPUT", "A title has up to 200 characters.", {
        details: { path: ["input", "title"] },
      });
    }
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const reference = input.reference ?? (await nextComputerReference(em));
      if (await em.findOne(ComputerEntity, { reference })) {
        throw new AppError("ALREADY_EXISTS", `There is a computer ${reference}, or its name is taken.`, {
          details: { path: ["input", "reference"] },
        });
      }
      const now = new Date();
      const row = em.create(ComputerEntity, {
        reference,
        project,
        title: input.title ?? reference,
        scope: "OPEN",
        attributes: {},
        liveness: "UNSEEN",
        livenessSince: now,
        lastContactAt: null,
        createdAt: now,
        revision: Date.now() * 1000,
        formattedAt: null,
        slaposVersion: null,
        pythonVersion: null,
        osType: null,
      });
      const issued = await this.#tokens.issue({
        kind: "node",
        subject: reference,
        project,
        lifetimeSeconds: tokenLifetimeSeconds,
      });
      const base = { project, actor: caller.subject };
      await append(
        { ...base, kind: "ComputerCreated", subject: reference, payload: { title: row.title } },
        {
          ...base,
          kind: "TokenIssued",
          subject: issued.tokenId,
          payload: { kind: "node", subject: reference, expiresAt: issued.expiresAt.toISOString() },
        },
      );
      return { row, credential: issued.token };
    });
  }

  /** For SLAP: the project's computer of this title, made if there is none. Its reference is always a `COMP-n`. */
  async requestComputer(caller: Caller, title: string, named?: string | null): Promise<ComputerRow> {
    const project = projectOf(caller, named);
    requireOwner(caller, project, "Requesting a computer");
    if (title.trim() === "") throw new AppError("BAD_USER_INPUT", "A computer's title is missing.");
    const present = await this.#orm.em
      .fork()
      .findOne(ComputerEntity, { project, title }, { orderBy: { createdAt: "asc", reference: "asc" } });
    if (present && !present.reference.startsWith("COMP-")) {
      throw new AppError(
        "STATE_CONFLICT",
        `${title} is the title of ${present.reference}, whose node is set up by hand.`,
      );
    }
    return present ?? (await this.createComputer(caller, { title, project })).row;
  }

  async computers(caller: Caller, page: Page): Promise<ComputerRow[]> {
    const { where, options } = keyset("reference", page);
    return this.#orm.em.fork().find(ComputerEntity, { $and: [where, visibleComputers(caller)] }, options);
  }

  async computersByReference(caller: Caller, references: readonly string[]): Promise<(ComputerRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(ComputerEntity, { $and: [{ reference: { $in: [...references] } }, visibleComputers(caller)] });
    const byReference = new Map(rows.map((row) => [row.reference, row]));
    return references.map((reference) => byReference.get(reference) ?? null);
  }

  /** Opens or closes a computer to new instances; what runs there goes on. */
  async setScope(caller: Caller, reference: string, scope: Scope): Promise<ComputerRow> {
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await lockOwned(em, caller, reference);
      if (row.scope === scope) return row;
      const from = row.scope;
      row.scope = scope;
      await append(computerEvent(row, caller.subject, "ComputerScopeChanged", { from, to: scope }));
      return row;
    });
  }

  /** Replaces what the computer's owner says of it. Pending requests that ask for it are tried again. */
  async setAttributes(
    caller: Caller,
    reference: string,
    attributes: readonly { name: string; value: string }[],
  ): Promise<ComputerRow> {
    const known = computerAttributes as readonly string[];
    for (const [index, { name, value }] of attributes.entries()) {
      const path = ["input", "attributes", String(index)];
      if (!known.includes(name) || attributes.findIndex((one) => one.name === name) !== index) {
        throw new AppError("BAD_USER_INPUT", `Attributes are, each once: ${known.join(", ")}.`, { details: { path } });
      }
      if (!/^[\w.+-][\w .+/-]{0,199}$/.test(value)) {
        throw new AppError("BAD_USER_INPUT", "A value is 1 to 200 of letters, digits, spaces and . _ + - /.", {
          details: { path },
        });
      }
    }
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await lockOwned(em, caller, reference);
      row.attributes = Object.fromEntries(attributes.map(({ name, value }) => [name, value]));
      await append(computerEvent(row, caller.subject, "ComputerAttributesChanged", row.attributes));
      return row;
    });
  }

  /**
   * Takes over what a node formatted. Partitions that it lists are made or updated; one that it no longer lists goes if it
   * is free, and else stays with its instance and takes no new one. An allocation is never lost. NOT_FOUND for a computer
   * that does not exist or that the caller does not speak for.
   */
  async reportFormat(caller: Caller, report: FormatReport): Promise<void> {
    const { reference } = report;
    if (report.partitions.length > maxPartitions) {
      throw new AppError("PAYLOAD_TOO_LARGE", `A computer has up to ${maxPartitions} partitions.`);
    }
    if (!speaksForComputer(caller, reference)) throw noComputer(reference);
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const revision = await raiseComputer(em, reference);
      if (revision === null) throw noComputer(reference);
      const computer = await em.findOneOrFail(ComputerEntity, { reference });
      computer.formattedAt = new Date();
      computer.slaposVersion = report.slaposVersion;
      computer.pythonVersion = report.pythonVersion;
      computer.osType = report.osType;
      const present = new Map(
        (await em.find(PartitionEntity, { computerReference: reference })).map((row) => [row.reference, row]),
      );
      for (const listed of report.partitions) {
        const row = present.get(listed.reference);
        present.delete(listed.reference);
        if (!row) {
          em.create(PartitionEntity, {
            key: `${reference}/${listed.reference}`,
            computerReference: reference,
            reference: listed.reference,
            project: computer.project,
            state: "FREE",
            stateSince: new Date(),
            message: null,
            revision,
            capabilities: listed.capabilities,
            addresses: listed.addresses,
            routedAddresses: listed.routedAddresses,
            isListed: true,
            instanceReference: null,
            owner: null,
          });
          continue;
        }
        const moved =
          JSON.stringify([row.addresses, row.routedAddresses]) !==
          JSON.stringify([listed.addresses, listed.routedAddresses]);
        // An instance's configuration is made of its addresses, so it has to be processed again when they change.
        if (moved && row.instanceReference) row.revision = Math.max(revision, row.revision + 1);
        row.addresses = listed.addresses;
        row.routedAddresses = listed.routedAddresses;
        row.capabilities = listed.capabilities;
        row.isListed = true;
      }
      for (const unlisted of present.values()) {
        if (unlisted.state === "FREE") em.remove(unlisted);
        else unlisted.isListed = false;
      }
      await em.flush();
      await append({
        kind: "ComputerFormatted",
        subject: reference,
        project: computer.project,
        actor: caller.subject,
        payload: { partitions: report.partitions.length },
      });
    });
  }

  /** Notes that a node was heard of: written at most once in an interval, and at once where it changes the liveness. */
  async noteContact(caller: Caller, writeIntervalMs: number): Promise<void> {
    if (caller.kind !== "node") return;
    const reference = caller.subject;
    const writtenAt = this.#contactWrittenAt.get(reference);
    if (writtenAt !== undefined && Date.now() - writtenAt < writeIntervalMs) return;
    this.#contactWrittenAt.set(reference, Date.now());
    try {
      await this.#eventLog.transact(this.#orm, async (em, append) => {
        if (!(await lockComputer(em, reference))) return;
        const row = await em.findOneOrFail(ComputerEntity, { reference });
        row.lastContactAt = new Date();
        if (row.liveness === "ONLINE") return;
        const from = row.liveness;
        row.liveness = "ONLINE";
        row.livenessSince = new Date();
        await append(computerStateChanged(row, from, caller.subject));
      });
    } catch (error) {
      this.#contactWrittenAt.delete(reference);
      throw error;
    }
  }

  /**
   * Declares computers SUSPECT or LOST that were not heard of for long. `doorOpenMs` is how long nodes could have been
   * heard: what was silent while nobody listened is not silent. One replica at a time, a bounded number a sweep.
   */
  async sweepLiveness(doorOpenMs: number, thresholds: LivenessThresholds): Promise<void> {
    if (doorOpenMs < thresholds.suspectAfterMs) return;
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const [lock] = await em.execute<{ held: boolean }[]>(
        "select pg_try_advisory_xact_lock(hashtext('slapgraph liveness')) as held",
      );
      if (!lock?.held) return;
      const now = Date.now();
      const before = (ms: number) => new Date(now - ms);
      const silent = await em.execute<{ reference: string }[]>(
        `select reference from computer.computer
         where liveness = 'ONLINE' and last_contact_at <= ? or liveness = 'SUSPECT' and last_contact_at <= ?
         order by reference limit ${sweepBatch} for update skip locked`,
        [before(thresholds.suspectAfterMs), before(thresholds.lostAfterMs)],
      );
      const rows = await em.find(ComputerEntity, { reference: { $in: silent.map(({ reference }) => reference) } });
      for (const row of rows) {
        const from = row.liveness;
        row.liveness = livenessAt(from, now - (row.lastContactAt?.getTime() ?? now), doorOpenMs, thresholds);
        if (row.liveness === from) continue;
        row.livenessSince = new Date();
        this.#contactWrittenAt.delete(row.reference);
        await append(computerStateChanged(row, from, "master"));
      }
    });
  }
}

function computerStateChanged(row: ComputerRow, from: string, actor: string) {
  return computerEvent(row, actor, "ComputerStateChanged", { from, to: row.liveness });
}

function computerEvent(row: ComputerRow, actor: string, kind: string, payload: Record<string, unknown>) {
  return { kind, subject: row.reference, project: row.project, actor, payload };
}

/** A computer that the caller owns, locked. NOT_FOUND where it cannot see it, FORBIDDEN where it has another role. */
async function lockOwned(em: EntityManager, caller: Caller, reference: string): Promise<ComputerRow> {
  const row = await em.findOne(ComputerEntity, { $and: [{ reference }, visibleComputers(caller)] });
  if (!row) throw noComputer(reference);
  if (!mayOwn(caller, row.project))
    throw new AppError("FORBIDDEN", "This takes the role OWNER in the computer's project.");
  await lockComputer(em, reference);
  await em.refresh(row);
  return row;
}

/** Skips numbers whose reference an owner chose by hand. */
async function nextComputerReference(em: EntityManager): Promise<string> {
  for (;;) {
    const [row] = await em.execute<{ number: string }[]>("select nextval('computer.computer_number') as number");
    const reference = `COMP-${row?.number}`;
    if (!(await em.findOne(ComputerEntity, { reference }))) return reference;
  }
}

export function noComputer(reference: string): AppError {
  return new AppError("NOT_FOUND", `There is no computer ${reference.slice(0, 80)}.`, {
    details: { path: ["input", "reference"] },
  });
}
