import type { Scope } from "../computer/computer.state.js";
import type { PartitionState } from "../partition/partition.state.js";

/** The filter keys that choose a partition. Others are either the node's own business or unknown, and unknown is said. */
export const filterKeys = ["computer_guid", "capability"] as const;

/** Keys that travel in the filter but are read by the node (retention, firewall), not by the allocation. */
const nodeKeys = /^(retention_delay|fw_.*)$/;

export interface AllocationRequest {
  project: string;
  filter: Record<string, string>;
}

export interface CandidateComputer {
  reference: string;
  project: string;
  scope: Scope;
}

export interface CandidatePartition {
  key: string;
  state: PartitionState;
  capabilities: readonly string[];
  isListed: boolean;
}

export interface Reason {
  /** The constraint that is not met: project, scope, computer_guid, capability, state, or filter for an unknown key. */
  constraint: string;
  message: string;
}

export function unknownFilterKeys(filter: Record<string, string>): string[] {
  return Object.keys(filter).filter((key) => !(filterKeys as readonly string[]).includes(key) && !nodeKeys.test(key));
}

/** Why a computer cannot take the request at all; empty when it can. */
export function reasonsAgainstComputer(request: AllocationRequest, computer: CandidateComputer): Reason[] {
  const reasons: Reason[] = [];
  if (computer.project !== request.project) {
    reasons.push({
      constraint: "project",
      message: `${computer.reference} is not a computer of the project ${request.project}.`,
    });
  }
  if (computer.scope !== "OPEN") {
    reasons.push({
      constraint: "scope",
      message: `${computer.reference} is ${computer.scope} and takes no new instances.`,
    });
  }
  const wanted = request.filter.computer_guid;
  if (wanted !== undefined && wanted !== computer.reference) {
    reasons.push({
      constraint: "computer_guid",
      message: `The request is for ${wanted}, this is ${computer.reference}.`,
    });
  }
  return reasons;
}

/**
 * Why a partition cannot take the request; empty when it can. As on the ERP5 master, a partition with capabilities is
 * kept for requests that ask for one of them.
 */
export function reasonsAgainstPartition(request: AllocationRequest, partition: CandidatePartition): Reason[] {
  const reasons: Reason[] = [];
  if (partition.state !== "FREE")
    reasons.push({ constraint: "state", message: `${partition.key} is ${partition.state}.` });
  if (!partition.isListed) {
    reasons.push({ constraint: "state", message: `${partition.key} is no longer part of its computer's format.` });
  }
  const wanted = request.filter.capability;
  if (wanted === undefined && partition.capabilities.length > 0) {
    reasons.push({
      constraint: "capability",
      message: `${partition.key} is kept for requests of ${partition.capabilities.join(" or ")}.`,
    });
  }
  if (wanted !== undefined && !partition.capabilities.includes(wanted)) {
    reasons.push({ constraint: "capability", message: `${partition.key} does not have the capability ${wanted}.` });
  }
  return reasons;
}
