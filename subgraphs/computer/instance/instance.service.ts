import { isDeepStrictEqual } from "node:util";
import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append, EventLog, LoggedEvent } from "../../../common/event-log.js";
import { type Caller, isMember, mayOwn, projectOf } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { checkReleaseUrl } from "../installation/installation.service.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import {
  lockInstanceIn,
  noPartition,
  partitionStateChanged,
  speaksForInstance,
} from "../partition/partition.service.js";
import { nextPartitionState } from "../partition/partition.state.js";
import { computerOfPartition, raiseComputer, raisePartitions } from "../revision.js";
import { speaksForComputer, visibleInstances } from "../visibility.js";
import { type Reason, unknownFilterKeys } from "./allocate.js";
import { findRoom } from "./find-room.js";
import { InstanceEntity } from "./instance.entity.js";
import { mayAllocationBecome, mayRequestBecome, type RequestedState } from "./instance.state.js";

export type InstanceRow = InferEntity<typeof InstanceEntity>;

export interface InstanceRequest {
  title: string;
  releaseUrl: string;
  softwareType: string;
  parameters: Record<string, unknown>;
  filter: Record<string, string>;
  /** Null keeps the state of an instance that exists, and means started for a new one. */
  requestedState: RequestedState | null;
  project?: string | null | undefined;
  /** The partition whose instance asks, when it is not a person: the new instance becomes its child. */
  requesterPartitionKey?: string | null;
}

const maxParametersLength = 256 * 1024;
const maxTreeSize = 100;
const pendingBatch = 100;

export class InstanceService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /**
   * Requests an instance by its title: makes it, or changes the one that has it. The same request again changes nothing.
   * It gets a partition in the same transaction if a fitting one is free, else it stays PENDING with the reasons.
   */
  async requestInstance(caller: Caller, request: InstanceRequest): Promise<InstanceRow> {
    checkRequest(request);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const place = await this.#placeOf(em, caller, request);
      await em.execute("select pg_advisory_xact_lock(hashtextextended(?, 0))", [`${place.scope} ${request.title}`]);
      const present = await em.findOne(InstanceEntity, {
        ...place.where,
        title: request.title,
        allocation: { $ne: "RELEASED" },
      });
      if (present) {
        await lockInstances(em, [present.reference]);
        await em.refresh(present);
        await changeInstance(em, append, caller, present, request);
        if (present.allocation === "PENDING") await allocate(em, append, caller.subject, present);
        return present;
      }
      if (request.requestedState === "DESTROYED") {
        throw new AppError("NOT_FOUND", `There is no instance ${request.title} to destroy.`, {
          details: { path: ["input", "title"] },
        });
      }
      const [number] = await em.execute<{ number: string }[]>("select nextval('computer.instance_number') as number");
      const reference = `SOFTINST-${number?.number}`;
      const row = em.create(InstanceEntity, {
        reference,
        project: place.project,
        title: request.title,
        rootReference: place.rootReference ?? reference,
        parentReference: place.parentReference,
        owner: place.owner,
        releaseUrl: request.releaseUrl,
        softwareType: request.softwareType,
        isShared: false,
        parameters: request.parameters,
        filter: request.filter,
        requestedState: place.forcedState ?? request.requestedState ?? "STARTED",
        allocation: "PENDING",
        pendingReasons: [],
        partitionKey: null,
        reportedState: "NONE",
        connectionParameters: {},
        createdAt: new Date(),
      });
      await em.flush();
      await append({
        ...instanceEvent(row, caller.subject, "InstanceRequested"),
        payload: { title: row.title, release: row.releaseUrl },
      });
      await allocate(em, append, caller.subject, row);
      return row;
    });
  }

  /** Where a request belongs: a root of a person, or a child in the tree of the instance that asks. */
  async #placeOf(em: EntityManager, caller: Caller, request: InstanceRequest) {
    if (request.requesterPartitionKey == null) {
      const project = projectOf(caller, request.project);
      if (!isMember(caller, project) || (caller.kind === "person" && caller.role === "VIEWER")) {
        throw new AppError(
          "FORBIDDEN",
          `Requesting an instance takes the role USER or OWNER in the project ${project}.`,
        );
      }
      const owner = caller.subject;
      return {
        scope: `${project}/${owner}`,
        where: { project, owner, parentReference: null },
        project,
        owner,
        rootReference: null,
        parentReference: null,
        forcedState: null,
      };
    }
    const key = request.requesterPartitionKey;
    const parent = await em.findOne(InstanceEntity, { partitionKey: key, allocation: "ALLOCATED", isShared: false });
    if (!(speaksForComputer(caller, computerOfPartition(key)) || speaksForInstance(caller, parent?.reference)))
      throw noPartition(key);
    if (!parent) throw noPartition(key);
    // The root's lock makes requests within one tree take turns, so the tree's bound and its stop hold.
    await lockInstances(em, [parent.rootReference]);
    const root = await em.findOneOrFail(InstanceEntity, { reference: parent.rootReference });
    await em.refresh(root);
    const size = await em.count(InstanceEntity, { rootReference: root.reference, allocation: { $ne: "RELEASED" } });
    const known = await em.findOne(InstanceEntity, {
      rootReference: root.reference,
      title: request.title,
      allocation: { $ne: "RELEASED" },
    });
    if (known?.reference === root.reference) {
      throw new AppError("STATE_CONFLICT", "An instance cannot request the root of its own tree.");
    }
    if (!known && size >= maxTreeSize)
      throw new AppError("STATE_CONFLICT", `A tree has up to ${maxTreeSize} instances.`);
    // Whichever member asked last is the one that waits for the child's connection parameters.
    if (known && known.reference !== parent.reference) known.parentReference = parent.reference;
    return {
      scope: root.reference,
      where: { rootReference: root.reference, parentReference: { $ne: null } },
      project: root.project,
      owner: root.owner,
      rootReference: root.reference,
      parentReference: parent.reference,
      forcedState: root.requestedState === "STARTED" ? null : root.requestedState,
    };
  }

  /** Starts, stops or destroys an instance and, because a tree lives and stops together, its descendants. */
  async setRequestedState(caller: Caller, reference: string, state: RequestedState): Promise<InstanceRow> {
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await this.#requireOwn(em, caller, reference);
      await requestState(em, append, caller.subject, row, state);
      return row;
    });
  }

  /** A new title. ALREADY_EXISTS when another root of the owner, or another member of the tree, has it. */
  async renameInstance(caller: Caller, reference: string, title: string): Promise<InstanceRow> {
    checkTitle(title);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await this.#requireOwn(em, caller, reference);
      if (row.title === title) return row;
      const siblings = row.parentReference
        ? { rootReference: row.rootReference, parentReference: { $ne: null } }
        : { project: row.project, owner: row.owner, parentReference: null };
      if (await em.findOne(InstanceEntity, { ...siblings, title, allocation: { $ne: "RELEASED" } })) {
        throw new AppError("ALREADY_EXISTS", `There is an instance ${title}.`, {
          details: { path: ["input", "title"] },
        });
      }
      const from = row.title;
      row.title = title;
      await em.flush();
      if (row.partitionKey) await raisePartitions(em, [row.partitionKey]);
      await append({ ...instanceEvent(row, caller.subject, "InstanceRenamed"), payload: { from, to: title } });
      return row;
    });
  }

  /** What an instance publishes. Stored only if it differs; the instance that requested it is then processed again. */
  async publishConnection(caller: Caller, partitionKey: string, parameters: Record<string, string>): Promise<void> {
    if (JSON.stringify(parameters).length > maxParametersLength) {
      throw new AppError("PAYLOAD_TOO_LARGE", `Connection parameters take up to ${maxParametersLength} bytes.`);
    }
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await lockInstanceIn(em, partitionKey);
      if (
        !(speaksForComputer(caller, computerOfPartition(partitionKey)) || speaksForInstance(caller, row?.reference))
      ) {
        throw noPartition(partitionKey);
      }
      if (!row) throw noPartition(partitionKey);
      if (isDeepStrictEqual(row.connectionParameters, parameters)) return;
      row.connectionParameters = parameters;
      await em.flush();
      const parent = row.parentReference ? await em.findOne(InstanceEntity, { reference: row.parentReference }) : null;
      if (parent?.partitionKey) await raisePartitions(em, [parent.partitionKey]);
      await raiseComputer(em, computerOfPartition(partitionKey));
      // The values stay out of the log: they are often credentials.
      await append({
        ...instanceEvent(row, caller.subject, "ConnectionPublished"),
        payload: { keys: Object.keys(parameters).slice(0, 50) },
      });
    });
  }

  /** Consumer: whatever may have made room lets pending requests try again, oldest first. */
  async retryPending(em: EntityManager, events: LoggedEvent[], append: Append): Promise<void> {
    const projects = new Set(events.filter(mayMakeRoom).map((event) => event.project));
    if (projects.size === 0) return;
    const pending = await em.execute<{ reference: string }[]>(
      `select reference from computer.instance where allocation = 'PENDING' and project in (${[...projects].map(() => "?").join(", ")})
       order by created_at limit ${pendingBatch} for update skip locked`,
      [...projects],
    );
    for (const { reference } of pending) {
      const row = await em.findOneOrFail(InstanceEntity, { reference });
      await allocate(em, append, "master", row);
    }
  }

  async instances(caller: Caller, page: Page): Promise<InstanceRow[]> {
    const { where, options } = keyset("reference", page);
    return this.#orm.em
      .fork()
      .find(InstanceEntity, { $and: [where, visibleInstances(caller), { allocation: { $ne: "RELEASED" } }] }, options);
  }

  async instancesByReference(caller: Caller, references: readonly string[]): Promise<(InstanceRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(InstanceEntity, { $and: [{ reference: { $in: [...references] } }, visibleInstances(caller)] });
    const byReference = new Map(rows.map((row) => [row.reference, row]));
    return references.map((reference) => byReference.get(reference) ?? null);
  }

  /** The living children of each instance; a tree is bounded, so this is too. */
  async childrenOf(caller: Caller, references: readonly string[]): Promise<InstanceRow[][]> {
    const where = { parentReference: { $in: [...references] }, allocation: { $ne: "RELEASED" as const } };
    const rows = await this.#orm.em
      .fork()
      .find(InstanceEntity, { $and: [where, visibleInstances(caller)] }, { orderBy: { reference: "asc" } });
    return references.map((reference) => rows.filter((row) => row.parentReference === reference));
  }

  /** Owners change every instance of the project, users their own; what one cannot see does not exist. */
  async #requireOwn(em: EntityManager, caller: Caller, reference: string): Promise<InstanceRow> {
    await lockInstances(em, [reference]);
    const row = await em.findOne(InstanceEntity, { $and: [{ reference }, visibleInstances(caller)] });
    if (!row) {
      throw new AppError("NOT_FOUND", `There is no instance ${reference.slice(0, 80)}.`, {
        details: { path: ["input", "reference"] },
      });
    }
    const isOwn = caller.kind === "person" && caller.role === "USER" && row.owner === caller.subject;
    const isItsNode = caller.kind === "node" || caller.kind === "instance";
    if (!mayOwn(caller, row.project) && !isOwn && !isItsNode) {
      throw new AppError("FORBIDDEN", "Changing an instance takes the role OWNER, or USER for one's own.");
    }
    return row;
  }
}

/** Applies a repeated request. Raises the partition only if the node has to do something about the difference. */
async function changeInstance(
  em: EntityManager,
  append: Append,
  caller: Caller,
  row: InstanceRow,
  request: InstanceRequest,
) {
  const state = request.requestedState ?? row.requestedState;
  if (state !== row.requestedState) await requestState(em, append, caller.subject, row, state);
  else if (row.requestedState === "DESTROYED") throw beingDestroyed(row);
  if (row.requestedState === "DESTROYED") return;
  const processed =
    row.releaseUrl !== request.releaseUrl ||
    row.softwareType !== request.softwareType ||
    !isDeepStrictEqual(row.parameters, request.parameters);
  const filtered = !isDeepStrictEqual(row.filter, request.filter);
  if (!processed && !filtered) return;
  row.releaseUrl = request.releaseUrl;
  row.softwareType = request.softwareType;
  row.parameters = request.parameters;
  row.filter = request.filter;
  await em.flush();
  if (row.partitionKey && processed) await raisePartitions(em, [row.partitionKey]);
  else if (row.partitionKey) await raiseComputer(em, computerOfPartition(row.partitionKey));
  await append({ ...instanceEvent(row, caller.subject, "InstanceChanged"), payload: { release: row.releaseUrl } });
}

async function requestState(
  em: EntityManager,
  append: Append,
  actor: string,
  row: InstanceRow,
  state: RequestedState,
): Promise<void> {
  if (row.requestedState === state) return;
  if (!mayRequestBecome(row.requestedState, state)) throw beingDestroyed(row);
  // The whole tree takes turns, so what is read below is what is true until the end of the transaction.
  await em.execute("select reference from computer.instance where root_reference = ? order by reference for update", [
    row.rootReference,
  ]);
  const members = await descendants(em, row);
  const keys: string[] = [];
  for (const member of members) {
    if (member.requestedState === state || !mayRequestBecome(member.requestedState, state)) continue;
    const from = member.requestedState;
    member.requestedState = state;
    await append({ ...instanceEvent(member, actor, "InstanceRequestChanged"), payload: { from, to: state } });
    if (member.partitionKey) keys.push(member.partitionKey);
    // What never had a partition has nothing to be destroyed on a node.
    else if (state === "DESTROYED" && mayAllocationBecome(member.allocation, "RELEASED"))
      member.allocation = "RELEASED";
  }
  await em.flush();
  await raisePartitions(em, keys.sort());
  if (state !== "DESTROYED") return;
  for (const key of keys) {
    const partition = await em.findOneOrFail(PartitionEntity, { key });
    const from = partition.state;
    const to = nextPartitionState(from, "requestDestruction");
    if (to === null || to === from) continue;
    partition.state = to;
    partition.stateSince = new Date();
    const subject = {
      key,
      project: partition.project,
      owner: partition.owner ?? null,
      instance: partition.instanceReference ?? null,
    };
    await append(partitionStateChanged(subject, from, to, actor, null));
  }
}

async function descendants(em: EntityManager, row: InstanceRow): Promise<InstanceRow[]> {
  await em.flush();
  const alive = { rootReference: row.rootReference, allocation: { $ne: "RELEASED" as const } };
  const tree = await em.find(InstanceEntity, alive, { refresh: true });
  const members = [row];
  for (const member of members)
    members.push(...tree.filter((one) => one.parentReference === member.reference && !members.includes(one)));
  return members;
}

/** Gives a pending instance a free partition, or writes down why there is none. */
async function allocate(em: EntityManager, append: Append, actor: string, row: InstanceRow): Promise<void> {
  const unknown = unknownFilterKeys(row.filter);
  const outcome =
    unknown.length > 0
      ? {
          reasons: unknown.map(
            (key): Reason => ({ constraint: "filter", message: `The filter key ${key} is not known here.` }),
          ),
        }
      : await findRoom(em, row);
  if (!("partition" in outcome)) {
    row.pendingReasons = outcome.reasons;
    await em.flush();
    return;
  }
  const { partition } = outcome;
  const from = partition.state;
  const to = nextPartitionState(from, "allocate");
  if (to === null || !mayAllocationBecome(row.allocation, "ALLOCATED"))
    throw new AppError("INTERNAL", `${partition.key} is not free.`);
  row.allocation = "ALLOCATED";
  row.partitionKey = partition.key;
  row.pendingReasons = [];
  partition.state = to;
  partition.stateSince = new Date();
  partition.message = null;
  partition.instanceReference = row.reference;
  partition.owner = row.owner;
  await em.flush();
  await raisePartitions(em, [partition.key]);
  const subject = { key: partition.key, project: row.project, owner: row.owner, instance: row.reference };
  await append(partitionStateChanged(subject, from, to, actor, null));
}

async function lockInstances(em: EntityManager, references: readonly string[]): Promise<void> {
  if (references.length === 0) return;
  await em.execute(
    `select reference from computer.instance where reference in (${references.map(() => "?").join(", ")}) order by reference for update`,
    [...references],
  );
}

function mayMakeRoom(event: LoggedEvent): boolean {
  if (event.kind === "PartitionStateChanged") return event.payload.to === "FREE";
  return event.kind === "ComputerFormatted" || event.kind === "ComputerScopeChanged";
}

function instanceEvent(row: InstanceRow, actor: string, kind: string) {
  return { kind, subject: row.reference, project: row.project, actor };
}

function beingDestroyed(row: InstanceRow): AppError {
  return new AppError(
    "STATE_CONFLICT",
    `${row.title} is being destroyed. Wait until its node has removed it, then request it again.`,
    {
      details: { path: ["input", "title"] },
    },
  );
}

function checkTitle(title: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here.
  if (title.trim() === "" || title.length > 200 || /[\x00-\x1f\x7f]/.test(title)) {
    throw new AppError("BAD_USER_INPUT", "A title is 1 to 200 characters without control characters.", {
      details: { path: ["input", "title"] },
    });
  }
}

function checkRequest(request: InstanceRequest): void {
  checkTitle(request.title);
  checkReleaseUrl(request.releaseUrl);
  if (request.softwareType.length === 0 || request.softwareType.length > 200) {
    throw new AppError("BAD_USER_INPUT", "A software type is 1 to 200 characters.", {
      details: { path: ["input", "softwareType"] },
    });
  }
  if (JSON.stringify(request.parameters).length > maxParametersLength) {
    throw new AppError("BAD_USER_INPUT", `Parameters take up to ${maxParametersLength} bytes.`, {
      details: { path: ["input", "parameters"] },
    });
  }
}
