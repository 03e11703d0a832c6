import type { MikroORM } from "@mikro-orm/postgresql";
import type DataLoader from "dataloader";
import { AppError } from "../../common/errors.js";
import { gathered } from "../../common/gathered.js";
import type { Caller } from "../../common/identity.js";
import { inSession, inTransaction, type Session, type Sql, textArray } from "../../common/session.js";
import { noComputer } from "./computer/computer.service.js";
import type { InstallationRow } from "./installation/installation.service.js";
import { InstanceEntity } from "./instance/instance.entity.js";
import type { InstanceRow } from "./instance/instance.service.js";
import { type InterfaceAddress, PartitionEntity } from "./partition/partition.entity.js";
import { noPartition, type PartitionRow } from "./partition/partition.service.js";
import { computerOfPartition } from "./revision.js";
import { installationRows, instanceRows, partitionRows } from "./rows.js";
import { speaksForComputer, visibleInstances } from "./visibility.js";

/** A partition as its node needs it: with its instance and the root of that instance's tree. */
export interface HostedPartition {
  partition: PartitionRow;
  instance: InstanceRow | null;
  root: InstanceRow | null;
  /** The shared instances that it is to serve: started ones only, in the order in which they were requested. */
  shared: InstanceRow[];
}

/** An instance with the partition that it is in, its host's for a shared one; null while it waits. */
export interface PlacedInstance {
  instance: InstanceRow;
  root: InstanceRow | null;
  partition: PartitionRow | null;
}

/** All that a node has to know, as of one revision of its computer. */
export interface NodeView {
  reference: string;
  revision: number;
  installations: InstallationRow[];
  partitions: VersionedPartition[];
}

/** `hosted` is null where the reader has that version already. */
export interface VersionedPartition {
  key: string;
  /** Another one whenever anything differs that a node reads of the partition. */
  version: string;
  hosted: HostedPartition | null;
}

/** Reads for the SLAP door. A caller who does not speak for the computer finds nothing. */
export class NodeViewService {
  readonly #orm: MikroORM;
  readonly #revisions: DataLoader<string, number | null>;

  constructor(orm: MikroORM) {
    this.#orm = orm;
    this.#revisions = gathered(orm, readRevisions);
  }

  /** What a poll of an unchanged computer costs: a look-up by primary key, shared with the polls that come meanwhile. */
  async revisionOf(caller: Caller, reference: string): Promise<number> {
    const revision = speaksForComputer(caller, reference) ? await this.#revisions.load(reference) : null;
    if (revision === null) throw noComputer(reference);
    return revision;
  }

  /** What an instance's own credential reads of its computer: its own partition, and no release. */
  async viewOfInstance(caller: Caller, reference: string): Promise<NodeView> {
    const em = this.#orm.em.fork();
    const own =
      caller.kind === "instance"
        ? await em.findOne(PartitionEntity, { instanceReference: caller.subject, computerReference: reference })
        : null;
    if (!own) throw noComputer(reference);
    return {
      reference,
      revision: own.revision,
      installations: [],
      partitions: [{ key: own.key, version: "", hosted: await this.partitionOf(caller, own.key) }],
    };
  }

  /** Read in one snapshot, so that no answer mixes two revisions. `known` are versions that the reader has, by key. */
  async viewOf(caller: Caller, reference: string, known: ReadonlyMap<string, string> = new Map()): Promise<NodeView> {
    if (!speaksForComputer(caller, reference)) throw noComputer(reference);
    const read = async (session: Session) => {
      const [[revision = null], installations, versions] = await Promise.all([
        readRevisions(session, [reference]),
        installationsOf(session, reference),
        session.execute<{ key: string; version: string }[]>(partitionVersions, [reference]),
      ]);
      if (revision === null) throw noComputer(reference);
      const changed = versions.filter(({ key, version }) => known.get(key) !== version);
      const hosted = await hostedIn(
        session,
        changed.map(({ key }) => key),
      );
      const partitions = versions.map((one) => ({ ...one, hosted: hosted.get(one.key) ?? null }));
      return { reference, revision, installations, partitions };
    };
    return inTransaction(this.#orm, read, "repeatable read, read only");
  }

  async partitionOf(caller: Caller, key: string): Promise<HostedPartition> {
    const hosted = (await inSession(this.#orm, (session) => hostedIn(session, [key]))).get(key);
    const isItsInstance = caller.kind === "instance" && hosted?.instance?.reference === caller.subject;
    if (!hosted || !(speaksForComputer(caller, computerOfPartition(key)) || isItsInstance)) throw noPartition(key);
    return hosted;
  }

  /** An instance with its place. NOT_FOUND when the caller cannot see it or it has ended. */
  async instanceOf(caller: Caller, reference: string): Promise<PlacedInstance> {
    return this.#placed({ $and: [{ reference }, visibleInstances(caller), alive] }, reference);
  }

  /** The root of this title among those that the caller sees, its own before others'. */
  async treeOf(caller: Caller, title: string): Promise<PlacedInstance> {
    const roots = { $and: [{ title, parentReference: null }, visibleInstances(caller), alive] };
    const rows = await this.#orm.em.fork().find(InstanceEntity, roots, { orderBy: { number: "asc" }, limit: maxTrees });
    const row = rows.find((one) => one.owner === caller.subject) ?? rows[0];
    return this.#placed({ reference: row?.reference ?? "" }, title);
  }

  /** The living members of a tree that the caller sees, with their places. */
  async membersOf(caller: Caller, root: InstanceRow): Promise<PlacedInstance[]> {
    const em = this.#orm.em.fork();
    const members = await em.find(
      InstanceEntity,
      { $and: [{ rootReference: root.rootReference }, visibleInstances(caller), alive] },
      { orderBy: { number: "asc" } },
    );
    const keys = members.flatMap((member) => member.partitionKey ?? []);
    const partitions = await em.find(PartitionEntity, { key: { $in: keys } });
    const byKey = new Map(partitions.map((partition) => [partition.key, partition]));
    return members.map((instance) => ({ instance, root, partition: byKey.get(instance.partitionKey ?? "") ?? null }));
  }

  /** The roots of the trees that the caller sees, the oldest 1,000. */
  async trees(caller: Caller): Promise<InstanceRow[]> {
    const roots = { $and: [{ parentReference: null }, visibleInstances(caller), alive] };
    return this.#orm.em.fork().find(InstanceEntity, roots, { orderBy: { number: "asc" }, limit: maxTrees });
  }

  /** The shared instances that an instance is to serve. */
  async sharedOf(caller: Caller, reference: string): Promise<InstanceRow[]> {
    const { instance } = await this.instanceOf(caller, reference);
    if (instance.isShared || instance.partitionKey == null) return [];
    return sharedIn(this.#orm.em.fork(), [instance.partitionKey]);
  }

  /** The addresses of all partitions of the tree that this partition's instance belongs to. */
  async addressesOfTree(caller: Caller, key: string): Promise<InterfaceAddress[]> {
    const { instance } = await this.partitionOf(caller, key);
    if (!instance) return [];
    const em = this.#orm.em.fork();
    const members = await em.find(InstanceEntity, {
      rootReference: instance.rootReference,
      allocation: "ALLOCATED",
      isShared: false,
    });
    const partitions = await em.find(
      PartitionEntity,
      { key: { $in: members.flatMap((member) => member.partitionKey ?? []) } },
      { orderBy: { key: "asc" } },
    );
    return partitions.flatMap((partition) => partition.addresses);
  }

  async #placed(where: object, name: string): Promise<PlacedInstance> {
    const em = this.#orm.em.fork();
    const instance = await em.findOne(InstanceEntity, where);
    if (!instance) throw new AppError("NOT_FOUND", `There is no instance ${name.slice(0, 80)}.`);
    const root = await em.findOne(InstanceEntity, { reference: instance.rootReference });
    const partition = instance.partitionKey ? await em.findOne(PartitionEntity, { key: instance.partitionKey }) : null;
    return { instance, root, partition };
  }
}

const maxTrees = 1_000;
const alive = { allocation: { $ne: "RELEASED" as const } };

/**
 * PostgreSQL's own row versions say whether anything that `hostedIn` reads has changed, at the price of an index scan and
 * without reading it.
 */
const partitionVersions = `
  select p.key, concat_ws(' ', p.xmin, i.reference, i.xmin, root.xmin, (
      select string_agg(concat(s.reference, ' ', s.xmin), ' ' order by s.number) from computer.instance s
      where s.partition_key = p.key and s.is_shared and s.allocation = 'ALLOCATED' and s.requested_state = 'STARTED'
    )) as version
  from computer.partition p
  left join computer.instance i on i.reference = p.instance_reference
  left join computer.instance root on root.reference = i.root_reference
  where p.computer_reference = ? order by length(p.key), p.key`;

async function readRevisions(sql: Sql, references: readonly string[]): Promise<(number | null)[]> {
  const rows = await sql.execute<{ reference: string; revision: string }[]>(
    "select reference, revision from computer.computer where reference = any(?::text[])",
    [textArray(references)],
  );
  const revisions = new Map(rows.map(({ reference, revision }) => [reference, Number(revision)]));
  return references.map((reference) => revisions.get(reference) ?? null);
}

async function installationsOf(sql: Sql, reference: string): Promise<InstallationRow[]> {
  const rows = await sql.execute<Record<string, unknown>[]>(
    `select ${installationRows.columns(sql, "i")} from computer.installation i where i.computer_reference = ? order by i.created_at`,
    [reference],
  );
  return rows.map((row) => installationRows.read(sql, "i", row));
}

async function hostedIn(sql: Sql, keys: readonly string[]): Promise<Map<string, HostedPartition>> {
  if (keys.length === 0) return new Map();
  const reading = sql.execute<Record<string, unknown>[]>(
    `select ${partitionRows.columns(sql, "p")}, ${instanceRows.columns(sql, "i")}, ${instanceRows.columns(sql, "root")}
     from computer.partition p left join computer.instance i on i.reference = p.instance_reference
     left join computer.instance root on root.reference = i.root_reference where p.key = any(?::text[])`,
    [textArray(keys)],
  );
  const [rows, shared] = await Promise.all([reading, sharedIn(sql, keys)]);
  return new Map(
    rows.map((row) => {
      const partition = partitionRows.read(sql, "p", row);
      const isHeld = partition.instanceReference != null;
      return [
        partition.key,
        {
          partition,
          instance: isHeld ? instanceRows.read(sql, "i", row) : null,
          root: isHeld ? instanceRows.read(sql, "root", row) : null,
          shared: shared.filter((one) => one.partitionKey === partition.key),
        },
      ];
    }),
  );
}

async function sharedIn(sql: Sql, keys: readonly string[]): Promise<InstanceRow[]> {
  const rows = await sql.execute<Record<string, unknown>[]>(
    `select ${instanceRows.columns(sql, "s")} from computer.instance s
     where s.partition_key = any(?::text[]) and s.is_shared and s.allocation = 'ALLOCATED' and s.requested_state = 'STARTED'
     order by s.number`,
    [textArray(keys)],
  );
  return rows.map((row) => instanceRows.read(sql, "s", row));
}
