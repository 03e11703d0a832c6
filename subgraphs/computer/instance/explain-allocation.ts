import type { EntityManager } from "../../../common/database.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { ComputerEntity } from "../computer/computer.entity.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import {
  type AllocationRequest,
  type CandidatePartition,
  type Reason,
  reasonsAgainstComputer,
  reasonsAgainstFilter,
  reasonsAgainstPartition,
} from "./allocate.js";
import { InstanceEntity } from "./instance.entity.js";

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
export async function summarise(em: EntityManager, request: AllocationRequest): Promise<Reason[]> {
  const always = reasonsAgainstFilter(request.filter);
  if (always.length > 0) return always;
  const wanted = request.filter.computer_guid;
  const computers = await em.find(
    ComputerEntity,
    { project: request.project, ...(wanted === undefined ? {} : { reference: wanted }) },
    { orderBy: { reference: "asc" }, limit: maxComputersRead },
  );
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
  const reasons: Reason[] = [];
  for (const computer of computers) {
    const against = reasonsAgainstComputer(request, computer);
    if (against.length > 0) {
      reasons.push(...against);
      continue;
    }
    const page: Page = {
      limit: maxReasons,
      backward: false,
      after: `${computer.reference}/`,
      before: `${computer.reference}0`,
    };
    const candidates = await explainAllocation(em, request, page);
    if (candidates.length === 0)
      reasons.push({ constraint: "state", message: `${computer.reference} has no partition.` });
    reasons.push(...candidates.flatMap((candidate) => candidate.reasons));
    if (reasons.length >= maxReasons) break;
  }
  return reasons.slice(0, maxReasons);
}
