import { isDeepStrictEqual } from "node:util";
import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type DataLoader from "dataloader";
import { commandInProgress } from "../../../common/audit.js";
import { Batches } from "../../../common/batches.js";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append, EventLog, LoggedEvent } from "../../../common/event-log.js";
import { gathered } from "../../../common/gathered.js";
import { type Caller, isMember, mayOwn, projectOf } from "../../../common/identity.js";
import { pagePerParent } from "../../../common/page-per-parent.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { inSession } from "../../../common/session.js";
import { checkReleaseUrl } from "../installation/installation.service.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import { noPartition, speaksForInstance, speaksForPartition } from "../partition/partition.service.js";
import { computerOfPartition, raiseComputer } from "../revision.js";
import { instanceRows } from "../rows.js";
import { keysOfComputer, speaksForComputer, visibleInstances } from "../visibility.js";
import { type Candidate, explainAllocation } from "./explain-allocation.js";
import { allocationRequestOf } from "./find-room.js";
import { InstanceEntity } from "./instance.entity.js";
import type { RequestedState } from "./instance.state.js";
import { lockInstances, lockSharedInstanceIn, raiseInstances } from "./lock-instance.js";
import { leaveHost, type Placement, placeInstance } from "./place-instance.js";
import { type Publication, publishConnections } from "./publish-connections.js";
import { kindOfNew, type NewRequest, requestNew } from "./request-new.js";
import { beingDestroyed, instanceEvent, requestState } from "./request-state.js";
import { retryPending } from "./retry-pending.js";
import { isAsRequested, type Present, presentChild, presentRoots, type RootName } from "./unchanged-request.js";

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
  /** A shared instance has no partition of its own: it lives in another instance of the same release and type. */
  isShared?: boolean;
}

const maxParametersLength = 256 * 1024;
const maxTreeSize = 100;
const maxMessageLength = 5_000;

export class InstanceService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #presentRoots: DataLoader<RootName, Present | null>;
  readonly #publications: Batches<Publication, null>;
  /** By their kinds. Null sends a request on alone. */
  readonly #newRequests: Batches<NewRequest, Placement | null>;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#presentRoots = gathered(orm, presentRoots);
    this.#publications = new Batches((computer, items) =>
      eventLog.transactSql(orm, (session, append) => publishConnections(session, append, computer, items)),
    );
    this.#newRequests = new Batches((_, items) =>
      eventLog.transactSql(orm, (session, append) => requestNew(session, append, items)),
    );
  }

  /**
   * Requests an instance by its title: makes it, or changes the one that has it. The same request again changes nothing.
   * It gets a partition in the same transaction if a fitting one is free, else it stays PENDING with the reasons.
   */
  async requestInstance(caller: Caller, request: InstanceRequest): Promise<InstanceRow> {
    return (await this.requestPlacement(caller, request)).instance;
  }

  /** The same, with the partition that it is in. */
  async requestPlacement(caller: Caller, request: InstanceRequest): Promise<Placement> {
    checkRequest(request);
    const project = request.requesterPartitionKey == null ? requestingProject(caller, request.project) : null;
    const present = await this.#present(caller, request, project);
    if (present && isAsRequested(present, request)) return present;
    const kind = present ? null : kindOfNew(project, request);
    if (project !== null && kind !== null) {
      const command = commandInProgress();
      const placed = await this.#newRequests.submit(kind, { caller, request, project, command });
      if (placed) return placed;
    }
    return this.#requestAlone(caller, request, project);
  }

  /** The instance that a request is about; null also where something is wrong with the request of a child. */
  #present(caller: Caller, request: InstanceRequest, project: string | null): Promise<Present | null> {
    const { title, requesterPartitionKey } = request;
    if (requesterPartitionKey == null)
      return this.#presentRoots.load({ project: project ?? "", owner: caller.subject, title });
    return inSession(this.#orm, (session) => presentChild(session, caller, requesterPartitionKey, title));
  }

  async #requestAlone(caller: Caller, request: InstanceRequest, project: string | null): Promise<Placement> {
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const place = await this.#placeOf(em, caller, request, project);
      const reference = await referenceAt(em, place, request.title);
      if (reference === null) {
        if (request.requestedState === "DESTROYED") {
          throw new AppError("NOT_FOUND", `There is no instance ${request.title} to destroy.`, {
            details: { path: ["input", "title"] },
          });
        }
        const made = await insertInstance(em, place, request);
        await append({
          ...instanceEvent(made, caller.subject, "InstanceRequested"),
          payload: { title: made.title, release: made.releaseUrl },
        });
        return placeInstance(em, append, caller.subject, made);
      }
      await lockInstances(em, [reference]);
      const present = await em.findOneOrFail(InstanceEntity, { reference });
      const requestedState = place.forcedState ?? request.requestedState;
      await changeInstance(em, append, caller, present, { ...request, requestedState });
      if (present.allocation === "PENDING") return placeInstance(em, append, caller.subject, present);
      const partition = present.partitionKey ? await em.findOne(PartitionEntity, { key: present.partitionKey }) : null;
      return { instance: present, partition };
    });
  }

  /** Where a request belongs: a root of a person, or a child in the tree of the instance that asks. */
  async #placeOf(em: EntityManager, caller: Caller, request: InstanceRequest, project: string | null): Promise<Place> {
    if (request.requesterPartitionKey == null) {
      const owner = caller.subject;
      if (project === null) throw noPartition("");
      return {
        project,
        owner,
        rootReference: null,
        parentReference: null,
        forcedState: null,
      };
    }
    const key = request.requesterPartitionKey;
    const parent = await em.findOne(InstanceEntity, { partitionKey: key, allocation: "ALLOCATED", isShared: false });
    if (
      !parent ||
      !(speaksForComputer(caller, computerOfPartition(key)) || speaksForInstance(caller, parent.reference))
    )
      throw noPartition(key);
    // The root's lock makes requests within one tree take turns, so the tree's bound and its stop hold.
    await lockInstances(em, [parent.rootReference]);
    const root = await em.findOneOrFail(InstanceEntity, { reference: parent.rootReference });
    await em.refresh(root);
    if (root.requestedState === "DESTROYED" || parent.requestedState === "DESTROYED") throw beingDestroyed(parent);
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
    if (known && (await isAncestor(em, known, parent))) {
      throw new AppError("STATE_CONFLICT", "An instance cannot request one that it descends from.");
    }
    // Whichever member asked last is the one that waits for the child's connection parameters.
    if (known) known.parentReference = parent.reference;
    await em.flush();
    return {
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
      const row = await this.#requireOwn(em, caller, reference, "itself too");
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
      await raiseInstances(em, row.parentReference || row.isShared ? [row] : await placedTree(em, row.reference));
      await append({ ...instanceEvent(row, caller.subject, "InstanceRenamed"), payload: { from, to: title } });
      return row;
    });
  }

  /**
   * What an instance publishes, or what the host of a shared instance publishes for it. Stored only if it differs; the
   * instance that requested it is then processed again.
   */
  async publishConnection(
    caller: Caller,
    partitionKey: string,
    parameters: Record<string, string>,
    sharedReference: string | null = null,
  ): Promise<void> {
    if (JSON.stringify(parameters).length > maxParametersLength) {
      throw new AppError("PAYLOAD_TOO_LARGE", `Connection parameters take up to ${maxParametersLength} bytes.`);
    }
    const publication = { caller, partitionKey, parameters, sharedReference };
    await this.#publications.submit(computerOfPartition(partitionKey), publication);
  }

  /** An error that a host has with a shared instance: it is the shared instance's, not the partition's. */
  async reportSharedError(caller: Caller, partitionKey: string, reference: string, message: string): Promise<void> {
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await lockSharedInstanceIn(em, partitionKey, reference);
      if (!row || !(await speaksForPartition(em, caller, partitionKey))) throw noPartition(partitionKey);
      if (row.reportedState === "ERROR") return;
      row.reportedState = "ERROR";
      await append({
        ...instanceEvent(row, caller.subject, "SharedInstanceFailed"),
        cause: message.slice(0, maxMessageLength),
      });
    });
  }

  /** The instance that a node's rename is about: the partition's own, or a shared one that it hosts. */
  async renameInPartition(
    caller: Caller,
    partitionKey: string,
    sharedReference: string | null,
    title: string,
  ): Promise<void> {
    const em = this.#orm.em.fork();
    const row = await em.findOne(InstanceEntity, {
      partitionKey,
      allocation: "ALLOCATED",
      ...(sharedReference === null ? { isShared: false } : { isShared: true, reference: sharedReference }),
    });
    if (!row || !(await speaksForPartition(em, caller, partitionKey))) throw noPartition(partitionKey);
    await this.renameInstance(caller, row.reference, title);
  }

  /**
   * Why each partition of the project would not be taken for an instance that exists. NOT_FOUND if the caller cannot see
   * it; FORBIDDEN to nodes and instances, which see no other computers.
   */
  async explainAllocationOf(caller: Caller, reference: string, page: Page): Promise<Candidate[]> {
    const row = await this.#orm.em.fork().findOne(InstanceEntity, { $and: [{ reference }, visibleInstances(caller)] });
    if (!row) throw noInstance(reference);
    if (!isMember(caller, row.project))
      throw new AppError("FORBIDDEN", "Only persons are told where else an instance could go.");
    return this.#explain(row, page);
  }

  /** The same for a request that nobody has made. Whoever may request may ask. */
  async explainRequest(caller: Caller, request: InstanceRequest, page: Page): Promise<Candidate[]> {
    const project = requestingProject(caller, request.project);
    const { releaseUrl, softwareType, filter } = request;
    return this.#explain({ project, isShared: request.isShared ?? false, releaseUrl, softwareType, filter }, page);
  }

  async #explain(row: Parameters<typeof allocationRequestOf>[1], page: Page): Promise<Candidate[]> {
    return this.#orm.em
      .fork()
      .transactional(async (em) => explainAllocation(em, await allocationRequestOf(em, row), page));
  }

  /** Consumer: what made room lets the pending requests that it fits try again, oldest first. */
  async retryPending(em: EntityManager, events: LoggedEvent[], append: Append): Promise<void> {
    await retryPending(em, events, append);
  }

  async instances(caller: Caller, page: Page): Promise<InstanceRow[]> {
    const { where, options } = keyset("reference", page);
    return this.#orm.em
      .fork()
      .find(InstanceEntity, { $and: [where, visibleInstances(caller), { allocation: { $ne: "RELEASED" } }] }, options);
  }

  /** One page of what lives on each computer, its own instances and those that they host. */
  async instancesOfComputers(caller: Caller, references: readonly string[], page: Page): Promise<InstanceRow[][]> {
    const hosted = {
      $or: references.map((reference) => ({ partitionKey: keysOfComputer(reference) })),
      allocation: "ALLOCATED" as const,
    };
    return pagePerParent(this.#orm.em.fork(), {
      entity: InstanceEntity,
      parents: references,
      parentSql: `split_part("row"."partition_key", '/', 1)`,
      parentOf: (row) => row.partitionKey && computerOfPartition(row.partitionKey),
      key: "reference",
      where: { $and: [hosted, visibleInstances(caller)] },
      page,
    });
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

  /**
   * Owners change every instance of the project, users their own, an instance its children, and where it says so a node
   * what it hosts and an instance itself. What one cannot see does not exist.
   */
  async #requireOwn(em: EntityManager, caller: Caller, reference: string, who?: "itself too"): Promise<InstanceRow> {
    await lockInstances(em, [reference]);
    const row = await em.findOne(InstanceEntity, { $and: [{ reference }, visibleInstances(caller)] });
    if (!row) throw noInstance(reference);
    const isOwn = caller.kind === "person" && caller.role === "USER" && row.owner === caller.subject;
    const isItself = who === "itself too" && (caller.kind === "node" || caller.kind === "instance");
    const isChild = caller.kind === "instance" && row.parentReference === caller.subject;
    if (!mayOwn(caller, row.project) && !isOwn && !isItself && !isChild) {
      throw new AppError("FORBIDDEN", "Changing an instance takes the role OWNER, or USER for one's own.");
    }
    return row;
  }
}

/** Where a request belongs: among its owner's roots, or in a tree. */
interface Place {
  project: string;
  owner: string;
  rootReference: string | null;
  parentReference: string | null;
  forcedState: RequestedState | null;
}

/** The living instance that has a title there. */
async function referenceAt(em: EntityManager, place: Place, title: string): Promise<string | null> {
  const { rootReference, project, owner } = place;
  const [found] = await em.execute<{ reference: string }[]>(
    `select reference from computer.instance where title = ? and allocation <> 'RELEASED'
       and ${rootReference === null ? "project = ? and owner = ? and parent_reference is null" : "root_reference = ? and parent_reference is not null"}`,
    [title, ...(rootReference === null ? [project, owner] : [rootReference])],
  );
  return found?.reference ?? null;
}

/** Of two that make the same title at once, the second fails on the title's index and finds the first's on its next try. */
async function insertInstance(em: EntityManager, place: Place, request: InstanceRequest): Promise<InstanceRow> {
  const [found] = await em.execute<Record<string, unknown>[]>(
    `with made as (
       insert into computer.instance (reference, number, project, title, root_reference, parent_reference, owner, release_url,
         software_type, is_shared, parameters, filter, requested_state, allocation, pending_reasons, reported_state,
         connection_parameters, created_at, revision)
       select 'SOFTINST-' || number, number, ?, ?, coalesce(?, 'SOFTINST-' || number), ?, ?, ?,
         ?, ?, ?::jsonb, ?::jsonb, ?, 'PENDING', '[]', 'NONE', '{}', now(), (extract(epoch from now()) * 1000000)::bigint
       from nextval('computer.instance_number') as number returning *)
     select ${instanceRows.columns(em, "made")} from made`,
    [
      place.project,
      request.title,
      place.rootReference,
      place.parentReference,
      place.owner,
      request.releaseUrl,
      request.softwareType,
      request.isShared ?? false,
      JSON.stringify(request.parameters),
      JSON.stringify(request.filter),
      place.forcedState ?? request.requestedState ?? "STARTED",
    ],
  );
  return instanceRows.read(em, "made", found ?? {});
}

/** Applies a repeated request. Raises the partition only if the node has to do something about the difference. */
async function changeInstance(
  em: EntityManager,
  append: Append,
  caller: Caller,
  row: InstanceRow,
  request: InstanceRequest,
) {
  if (row.isShared !== (request.isShared ?? false)) {
    throw new AppError(
      "STATE_CONFLICT",
      `${row.title} is ${row.isShared ? "" : "not "}a shared instance, and stays so.`,
      {
        details: { path: ["input", "shared"] },
      },
    );
  }
  const state = request.requestedState ?? row.requestedState;
  if (state !== row.requestedState) await requestState(em, append, caller.subject, row, state);
  else if (state === "DESTROYED" && request.requestedState !== "DESTROYED") throw beingDestroyed(row);
  if (state === "DESTROYED") return;
  const moved = row.releaseUrl !== request.releaseUrl || row.softwareType !== request.softwareType;
  const processed = moved || !isDeepStrictEqual(row.parameters, request.parameters);
  const filtered = !isDeepStrictEqual(row.filter, request.filter);
  if (!processed && !filtered) return;
  row.releaseUrl = request.releaseUrl;
  row.softwareType = request.softwareType;
  row.parameters = request.parameters;
  row.filter = request.filter;
  await em.flush();
  if (processed) await raiseInstances(em, [row]);
  else if (row.partitionKey) await raiseComputer(em, computerOfPartition(row.partitionKey));
  await append({
    ...instanceEvent(row, caller.subject, "InstanceChanged"),
    payload: { release: row.releaseUrl, partition: row.partitionKey ?? null },
  });
  // A host serves its own release and type only. What has a partition of its own keeps it.
  if (row.isShared && moved) await leaveHost(em, row);
}

/** The members of a tree that have a partition of their own, all of whose nodes read the root's title. */
function placedTree(em: EntityManager, rootReference: string): Promise<InstanceRow[]> {
  return em.find(InstanceEntity, { rootReference, allocation: "ALLOCATED", isShared: false });
}

/** Whether `ancestor` is `row` or above it. A tree is bounded, so this ends. */
async function isAncestor(em: EntityManager, ancestor: InstanceRow, row: InstanceRow): Promise<boolean> {
  for (let at: InstanceRow | null = row, depth = 0; at && depth <= maxTreeSize; depth++) {
    if (at.reference === ancestor.reference) return true;
    at = at.parentReference ? await em.findOne(InstanceEntity, { reference: at.parentReference }) : null;
  }
  return false;
}

/** The project that a person's request is for; FORBIDDEN without the role for it. */
function requestingProject(caller: Caller, named: string | null | undefined): string {
  const project = projectOf(caller, named);
  if (isMember(caller, project) && !(caller.kind === "person" && caller.role === "VIEWER")) return project;
  throw new AppError("FORBIDDEN", `Requesting an instance takes the role USER or OWNER in the project ${project}.`);
}

function noInstance(reference: string): AppError {
  return new AppError("NOT_FOUND", `There is no instance ${reference.slice(0, 80)}.`, {
    details: { path: ["input", "reference"] },
  });
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
