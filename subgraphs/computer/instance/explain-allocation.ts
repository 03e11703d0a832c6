import type { EntityManager } from "../../../common/database.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { type Sql, textArray } from "../../../common/session.js";
import { ComputerEntity } from "../computer/computer.entity.js";
import type { ComputerRow } from "../computer/computer.service.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import type { PartitionRow } from "../partition/partition.service.js";
import { computerRows, instanceRows, partitionRows } from "../rows.js";
import {
  type AllocationRequest,
  type CandidatePartition,
  type Reason,
  reasonsAgainstComputer,
  reasonsAgainstFilter,
  reasonsAgainstPartition,
} from "./allocate.js";
import { InstanceEntity } from "./instance.entity.js";
import type { InstanceRow } from "./instance.service.js";

/** A partition that a request could go to, with all that speaks against it. */
export interface Candidate {
  key: string;
  computerReference: string;
  /** Empty when it would be taken. */
  reasons: Reason[];
}

/** Every partition of the project, by key, each judged with the same rules that the allocation goes by. */
export async function explainAllocation(
  em: EntityManager,
  request: AllocationRequest,
  page: Page,
): Promise<Candidate[]> {
  const { where, options } = keyset("key", page);
  const partitions = await em.find(PartitionEntity, { $and: [where, { project: request.project }] }, options);
  const computers = await em.find(ComputerEntity, {
    reference: { $in: [...new Set(partitions.map((partition) => partition.computerReference))] },
  });
  const hosts = await em.find(InstanceEntity, {
    reference: { $in: partitions.flatMap((partition) => partition.instanceReference ?? []) },
  });
  return judge(request, computers, partitions, hosts);
}

function judge(
  request: AllocationRequest,
  computers: readonly ComputerRow[],
  partitions: readonly PartitionRow[],
  hosts: readonly InstanceRow[],
): Candidate[] {
  const computerOf = new Map(computers.map((computer) => [computer.reference, computer]));
  const hostOf = new Map(hosts.map((host) => [host.reference, host]));
  const always = reasonsAgainstFilter(request.filter);
  return partitions.map((partition) => {
    const { key, computerReference } = partition;
    const computer = computerOf.get(computerReference);
    const candidate: CandidatePartition = { ...partition, host: hostOf.get(partition.instanceReference ?? "") ?? null };
    return {
      key,
      computerReference,
      reasons: [
        ...always,
        ...(computer ? reasonsAgainstComputer(request, computer) : []),
        ...reasonsAgainstPartition(request, candidate),
      ],
    };
  });
}

const maxReasons = 20;
const maxComputersRead = 20;

/** A bounded summary for the pending instance itself; `explainAllocation` has the whole. */
export async function summarise(sql: Sql, request: AllocationRequest): Promise<Reason[]> {
  const always = reasonsAgainstFilter(request.filter);
  if (always.length > 0) return always;
  const wanted = request.filter.computer_guid;
  const computers = (
    await sql.execute<Record<string, unknown>[]>(
      `select ${computerRows.columns(sql, "c")} from computer.computer c
       where c.project = ? ${wanted === undefined ? "" : "and c.reference = ?"} order by c.reference limit ${maxComputersRead}`,
      [request.project, ...(wanted === undefined ? [] : [wanted])],
    )
  ).map((row) => computerRows.read(sql, "c", row));
  if (computers.length === 0) {
    return [
      wanted === undefined
        ? { constraint: "project", message: `The project ${request.project} has no computer.` }
        : {
            constraint: "computer_guid",
            message: `The project ${request.project} has no computer ${wanted.slice(0, 80)}.`,
          },
    ];
  }
  const { partitions, hosts } = await firstPartitions(sql, computers);
  const candidates = judge(request, [], partitions, hosts);
  const reasons = computers.flatMap((computer): Reason[] => {
    const against = reasonsAgainstComputer(request, computer);
    if (against.length > 0) return against;
    const own = candidates.filter(({ computerReference }) => computerReference === computer.reference);
    if (own.length === 0) return [{ constraint: "state", message: `${computer.reference} has no partition.` }];
    return own.flatMap((candidate) => candidate.reasons);
  });
  return reasons.slice(0, maxReasons);
}

/** The first partitions of each computer, with what is in them. */
async function firstPartitions(
  sql: Sql,
  computers: readonly ComputerRow[],
): Promise<{ partitions: PartitionRow[]; hosts: InstanceRow[] }> {
  const rows = await sql.execute<Record<string, unknown>[]>(
    `select ${partitionRows.columns(sql, "p")}, ${instanceRows.columns(sql, "host")}
     from unnest(?::text[]) as c (reference)
     cross join lateral (select * from computer.partition where computer_reference = c.reference order by key limit ${maxReasons}) p
     left join computer.instance host on host.reference = p.instance_reference order by p.key`,
    [textArray(computers.map(({ reference }) => reference))],
  );
  return {
    partitions: rows.map((row) => partitionRows.read(sql, "p", row)),
    hosts: rows.map((row) => instanceRows.read(sql, "host", row)),
  };
}
