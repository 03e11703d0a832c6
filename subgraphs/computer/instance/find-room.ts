import type { EntityManager } from "../../../common/database.js";
import { type Sql, textArray } from "../../../common/session.js";
import { ComputerEntity } from "../computer/computer.entity.js";
import type { ComputerRow } from "../computer/computer.service.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import type { PartitionRow } from "../partition/partition.service.js";
import { computerRows, partitionRows } from "../rows.js";
import {
  type AllocationRequest,
  computerAttributes,
  networkOf,
  reasonsAgainstComputer,
  reasonsAgainstPartition,
  uniqueByNetwork,
} from "./allocate.js";
import { InstanceEntity } from "./instance.entity.js";
import type { InstanceRow } from "./instance.service.js";

/** The request that a row stands for, with the networks that its tree already holds where they matter. */
export async function allocationRequestOf(
  em: EntityManager,
  row: Pick<InstanceRow, "project" | "isShared" | "releaseUrl" | "softwareType" | "filter"> & {
    reference?: string;
    rootReference?: string;
  },
): Promise<AllocationRequest> {
  const { project, isShared, releaseUrl, softwareType, filter } = row;
  const request = { project, isShared, releaseUrl, softwareType, filter, takenNetworks: [] };
  if (filter.mode !== uniqueByNetwork || row.rootReference === undefined) return request;
  // Members of one tree that ask for different networks take turns on its root.
  await em.execute("select reference from computer.instance where reference = ? for update", [row.rootReference]);
  const members = await em.find(InstanceEntity, {
    rootReference: row.rootReference,
    reference: { $ne: row.reference ?? "" },
    allocation: "ALLOCATED",
    isShared: false,
  });
  const references = members.flatMap(({ partitionKey }) => partitionKey?.split("/", 1)[0] ?? []);
  const computers = await em.find(ComputerEntity, { reference: { $in: references } });
  return { ...request, takenNetworks: computers.map(networkOf) };
}

/**
 * A partition that fits, its computer locked so that nobody else can take it, or end its host, before the transaction
 * ends; null if there is none.
 */
export async function findRoom(em: EntityManager, request: AllocationRequest): Promise<PartitionRow | null> {
  const [found] = request.isShared
    ? await search(em, request, (computer) => hostOn(em, request, computer.reference))
    : await findRooms(em, request, 1);
  return found ?? null;
}

/** The same for several requests that are alike: as many as one computer has, none only if no computer has one. */
export async function findRooms(sql: Sql, request: AllocationRequest, count: number): Promise<PartitionRow[]> {
  return search(sql, request, (computer) => freeOn(sql, request, computer.reference, count));
}

/**
 * Candidates come from the database and each is judged again under its lock; one that was taken meanwhile sends the search
 * on, so that a fitting partition is found if there is one.
 */
async function search(
  sql: Sql,
  request: AllocationRequest,
  takeOn: (computer: ComputerRow) => Promise<PartitionRow[]>,
): Promise<PartitionRow[]> {
  const isNamed = request.filter.computer_guid !== undefined;
  const tried: string[] = [];
  for (const tier of request.isShared || isNamed ? ["any"] : tiers) {
    // Computers that others are allocating on just now come last, so that requests spread instead of queueing.
    for (const wait of isNamed ? [true] : [false, true]) {
      for (;;) {
        const candidate = await candidateComputer(sql, request, tier, tried, wait);
        if (candidate === null) break;
        tried.push(candidate.reference);
        if (reasonsAgainstComputer(request, candidate).length > 0) continue;
        const found = await takeOn(candidate);
        if (found.length > 0) return found;
      }
    }
  }
  return [];
}

/** A computer that has the release comes before one that is heard of, and that before any other. */
const tiers = ["installed", "online", "any"] as const;

async function candidateComputer(
  sql: Sql,
  request: AllocationRequest,
  tier: string,
  tried: readonly string[],
  wait: boolean,
): Promise<ComputerRow | null> {
  const candidates = request.isShared ? hostedCandidates(request) : freeCandidates(request, tier);
  const [found] = await sql.execute<Record<string, unknown>[]>(
    `select ${computerRows.columns(sql, "c")} ${candidates.sql} and not (c.reference = any(?::text[]))
     order by c.reference limit 1 for update of c ${wait ? "" : "skip locked"}`,
    [...candidates.parameters, textArray(tried)],
  );
  return found ? computerRows.read(sql, "c", found) : null;
}

function freeCandidates(request: AllocationRequest, tier: string) {
  const computers = computerConditions(request);
  const free = freePartition(request, "p");
  const installed = "join computer.installation i on i.computer_reference = c.reference and i.url = ?";
  const parameters: unknown[] = [...(tier === "installed" ? [request.releaseUrl] : []), ...free.parameters];
  let sql = `from computer.computer c ${tier === "installed" ? installed : ""}
     where exists (select 1 from computer.partition p where p.computer_reference = c.reference and ${free.sql})
       and c.scope = 'OPEN' ${computers.sql}`;
  if (request.filter.instance_guid !== undefined) sql += " and false";
  if (tier !== "any") sql += " and c.liveness in ('ONLINE', 'UNSEEN')";
  if (tier === "installed") sql += " and i.requested_state = 'AVAILABLE'";
  return { sql, parameters: [...parameters, ...computers.parameters] };
}

/** The part of `reasonsAgainstPartition` that a request for a partition of its own asks, as SQL. */
function freePartition({ filter }: AllocationRequest, alias: string) {
  const wanted = filter.capability;
  const able = wanted === undefined ? "= '[]'::jsonb" : "@> jsonb_build_array(?::text)";
  return {
    sql: `${alias}.state = 'FREE' and ${alias}.is_listed and ${alias}.capabilities ${able}`,
    parameters: wanted === undefined ? [] : [wanted],
  };
}

function hostedCandidates({ project, releaseUrl, softwareType, ...request }: AllocationRequest) {
  const computers = computerConditions({ project, releaseUrl, softwareType, ...request });
  const guid = request.filter.instance_guid ?? null;
  return {
    sql: `from computer.instance host
     join computer.partition p on p.instance_reference = host.reference
     join computer.computer c on c.reference = p.computer_reference
     where host.project = ? and host.release_url = ? and host.software_type = ? and host.allocation = 'ALLOCATED'
       and host.requested_state = 'STARTED' and not host.is_shared and (?::text is null or host.reference = ?) ${computers.sql}`,
    parameters: [project, releaseUrl, softwareType, guid, guid, ...computers.parameters],
  };
}

/** The part of `reasonsAgainstComputer` that a filter asks of the computer, as SQL. */
function computerConditions({ project, filter, takenNetworks }: AllocationRequest) {
  const parameters: unknown[] = [project];
  let sql = " and c.project = ?";
  if (filter.computer_guid !== undefined) {
    sql += " and c.reference = ?";
    parameters.push(filter.computer_guid);
  }
  if (filter.project_guid !== undefined) {
    sql += " and c.project = ?";
    parameters.push(filter.project_guid);
  }
  for (const name of computerAttributes) {
    const wanted = filter[name];
    if (wanted === undefined) continue;
    sql += ` and (c.attributes ->> '${name}' = ? or starts_with(c.attributes ->> '${name}', ?))`;
    parameters.push(wanted, `${wanted}/`);
  }
  if (filter.mode === uniqueByNetwork) {
    sql += " and not (coalesce(c.attributes ->> 'network_guid', c.reference) = any(?::text[]))";
    parameters.push(textArray(takenNetworks));
  }
  return { sql, parameters };
}

/** The first partitions of a computer, which is locked, that the request fits. */
async function freeOn(sql: Sql, request: AllocationRequest, reference: string, count: number): Promise<PartitionRow[]> {
  const free = freePartition(request, "p");
  const rows = await sql.execute<Record<string, unknown>[]>(
    `select ${partitionRows.columns(sql, "p")} from computer.partition p
     where p.computer_reference = ? and ${free.sql} order by length(p.key), p.key limit ?`,
    [reference, ...free.parameters, count],
  );
  return rows
    .map((row) => partitionRows.read(sql, "p", row))
    .filter((partition) => reasonsAgainstPartition(request, { ...partition, host: null }).length === 0);
}

async function hostOn(em: EntityManager, request: AllocationRequest, reference: string): Promise<PartitionRow[]> {
  for (const { key } of await hostKeys(em, request, reference)) {
    const partition = await em.findOneOrFail(PartitionEntity, { key }, { refresh: true });
    const host = partition.instanceReference
      ? await em.findOneOrFail(InstanceEntity, { reference: partition.instanceReference }, { refresh: true })
      : null;
    if (reasonsAgainstPartition(request, { ...partition, host }).length === 0) return [partition];
  }
  return [];
}

const maxHostsTried = 100;

/** Hosts on one computer, the one with the fewest shared instances first. */
function hostKeys(em: EntityManager, { releaseUrl, softwareType }: AllocationRequest, reference: string) {
  return em.execute<{ key: string }[]>(
    `select p.key from computer.partition p join computer.instance host on host.reference = p.instance_reference
     where p.computer_reference = ? and host.release_url = ? and host.software_type = ? and host.requested_state = 'STARTED'
     order by (select count(*) from computer.instance s
               where s.partition_key = p.key and s.is_shared and s.allocation = 'ALLOCATED'), length(p.key), p.key
     limit ${maxHostsTried}`,
    [reference, releaseUrl, softwareType],
  );
}
