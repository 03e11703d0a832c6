import type { Scope } from "../computer/computer.state.js";
import type { PartitionState } from "../partition/partition.state.js";
import type { RequestedState } from "./instance.state.js";

/** What a computer's owner says of it, under the names that a filter asks for (the ERP5 master's). */
export const computerAttributes = [
  "network_guid",
  "group",
  "region",
  "cpu_core",
  "cpu_frequency",
  "cpu_type",
  "local_area_network_type",
  "memory_size",
  "memory_type",
  "storage_capacity",
  "storage_interface",
  "storage_redundancy",
] as const;

/** The filter keys that choose a partition. Others are either the node's own business or unknown, and unknown is said. */
export const filterKeys = [
  "computer_guid",
  "instance_guid",
  "project_guid",
  "capability",
  "mode",
  ...computerAttributes,
] as const;

/** Keys that travel in the filter but are read by the node (retention, firewall), not by the allocation. */
const nodeKeys = /^(retention_delay|fw_.*)$/;

export const uniqueByNetwork = "unique_by_network";

export interface AllocationRequest {
  project: string;
  isShared: boolean;
  releaseUrl: string;
  softwareType: string;
  filter: Record<string, string>;
  /** Networks that already hold an instance of the same tree; asked for by `mode=unique_by_network`. */
  takenNetworks: readonly string[];
}

export interface CandidateComputer {
  reference: string;
  project: string;
  scope: Scope;
  attributes: Readonly<Record<string, string>>;
}

/** The instance in a partition, as a shared instance sees its host. */
export interface CandidateHost {
  reference: string;
  releaseUrl: string;
  softwareType: string;
  requestedState: RequestedState;
}

export interface CandidatePartition {
  key: string;
  state: PartitionState;
  capabilities: readonly string[];
  isListed: boolean;
  host: CandidateHost | null;
}

export interface Reason {
  /** The constraint that is not met: a filter key, or project, scope, state, host, or filter for an unknown key. */
  constraint: string;
  message: string;
}

/** What of a filter can never be met: keys that nobody knows, a mode that does not exist. */
export function reasonsAgainstFilter(filter: Record<string, string>): Reason[] {
  const known = filterKeys as readonly string[];
  const reasons = Object.keys(filter)
    .filter((key) => !known.includes(key) && !nodeKeys.test(key))
    .map((key) => ({
      constraint: "filter",
      message: `The filter key ${key.slice(0, 80)} is not known. Known are ${filterKeys.join(", ")}.`,
    }));
  if (filter.mode !== undefined && filter.mode !== uniqueByNetwork) {
    reasons.push({ constraint: "mode", message: `The only mode is ${uniqueByNetwork}.` });
  }
  return reasons;
}

/** A computer that nobody put into a network is one of its own. */
export function networkOf(computer: CandidateComputer): string {
  return computer.attributes.network_guid ?? computer.reference;
}

/** Why a computer cannot take the request at all; empty when it can. */
export function reasonsAgainstComputer(request: AllocationRequest, computer: CandidateComputer): Reason[] {
  const { filter, project } = request;
  const { reference, attributes } = computer;
  const reasons: Reason[] = [];
  const against = (constraint: string, message: string) => reasons.push({ constraint, message });
  if (computer.project !== project) against("project", `${reference} is not a computer of the project ${project}.`);
  if (filter.project_guid !== undefined && filter.project_guid !== computer.project) {
    against("project_guid", `The request is for the project ${filter.project_guid}, not for ${computer.project}.`);
  }
  // A shared instance needs no room: its host runs on, whatever its computer still takes.
  if (!request.isShared && computer.scope !== "OPEN") {
    against("scope", `${reference} is ${computer.scope} and takes no new instances.`);
  }
  if (filter.computer_guid !== undefined && filter.computer_guid !== reference) {
    against("computer_guid", `The request is for ${filter.computer_guid}, this is ${reference}.`);
  }
  for (const name of computerAttributes) {
    const wanted = filter[name];
    const given = attributes[name];
    if (wanted === undefined || isUnder(given, wanted)) continue;
    against(name, `${reference} has ${given === undefined ? `no ${name}` : `the ${name} ${given}`}, not ${wanted}.`);
  }
  if (filter.mode === uniqueByNetwork && request.takenNetworks.includes(networkOf(computer))) {
    against("mode", `The network ${networkOf(computer)} of ${reference} already holds an instance of this tree.`);
  }
  return reasons;
}

/** Attributes are categories as on the ERP5 master: `europe/france` is also `europe`. */
export function isUnder(given: string | undefined, wanted: string): boolean {
  return given !== undefined && (given === wanted || given.startsWith(`${wanted}/`));
}

/** Why a partition cannot take the request; empty when it can. */
export function reasonsAgainstPartition(request: AllocationRequest, partition: CandidatePartition): Reason[] {
  return request.isShared ? reasonsAgainstHost(request, partition) : reasonsAgainstRoom(request, partition);
}

/** As on the ERP5 master, a partition with capabilities is kept for requests that ask for one of them. */
function reasonsAgainstRoom({ filter }: AllocationRequest, partition: CandidatePartition): Reason[] {
  const { key, capabilities } = partition;
  const reasons: Reason[] = [];
  const against = (constraint: string, message: string) => reasons.push({ constraint, message });
  if (partition.state !== "FREE") against("state", `${key} is ${partition.state}.`);
  if (!partition.isListed) against("state", `${key} is no longer part of its computer's format.`);
  const wanted = filter.capability;
  if (wanted === undefined && capabilities.length > 0) {
    against("capability", `${key} is kept for requests of ${capabilities.join(" or ")}.`);
  }
  if (wanted !== undefined && !capabilities.includes(wanted)) {
    against("capability", `${key} does not have the capability ${wanted}.`);
  }
  if (filter.instance_guid !== undefined) {
    against("instance_guid", "instance_guid names the host of a shared instance, and this one is not shared.");
  }
  return reasons;
}

/**
 * A shared instance lives in a started instance of the same release and software type. Whoever asks may not see the hosts of
 * others, so that the reasons say how a host does not fit, and nothing of what it is.
 */
function reasonsAgainstHost(request: AllocationRequest, { key, host, capabilities }: CandidatePartition): Reason[] {
  if (host === null) return [{ constraint: "host", message: `${key} holds no instance.` }];
  const { filter } = request;
  const reasons: Reason[] = [];
  const against = (constraint: string, message: string) => reasons.push({ constraint, message });
  if (host.releaseUrl !== request.releaseUrl) against("host", `The instance in ${key} is of another release.`);
  if (host.softwareType !== request.softwareType) against("host", `The instance in ${key} has another software type.`);
  if (host.requestedState !== "STARTED") against("host", `The instance in ${key} is not wanted STARTED.`);
  if (filter.instance_guid !== undefined && filter.instance_guid !== host.reference) {
    against("instance_guid", `The request is for ${filter.instance_guid}, ${key} holds another instance.`);
  }
  if (filter.capability !== undefined && !capabilities.includes(filter.capability)) {
    against("capability", `${key} does not have the capability ${filter.capability}.`);
  }
  return reasons;
}
