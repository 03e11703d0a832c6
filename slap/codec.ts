import { AppError } from "../common/errors.js";
import type { ComputerRow, FormatReport } from "../subgraphs/computer/computer/computer.service.js";
import type { InstallationRow } from "../subgraphs/computer/installation/installation.service.js";
import type { InstanceRow } from "../subgraphs/computer/instance/instance.service.js";
import type { RequestedState } from "../subgraphs/computer/instance/instance.state.js";
import type { HostedPartition, NodeView } from "../subgraphs/computer/node-view.js";
import type { InterfaceAddress, RoutedAddress } from "../subgraphs/computer/partition/partition.entity.js";
import type { PartitionRow } from "../subgraphs/computer/partition/partition.service.js";
import {
  type DumpableRecord,
  loads,
  MarshalFloat,
  MarshalObject,
  type MarshalPart,
  MarshalTuple,
  type MarshalValue,
  pythonFloat,
  XmlMarshalError,
} from "./xml-marshaller.js";

/** Between the master's nouns and the Python objects that the client expects (slap-protocol.md §1.4). Pure. */

export function decode(xml: string): MarshalValue {
  try {
    return loads(xml);
  } catch (error) {
    if (error instanceof XmlMarshalError) throw new AppError("MALFORMED_XML", error.message, { cause: error });
    throw error;
  }
}

/** `partition_parameter_xml`, `filter_xml`, `connection_xml`: a dictionary whose values become text, as the client reads them back. */
export function decodeTextDictionary(xml: string | null, field: string): Record<string, string> {
  if (xml === null) return {};
  const value = decode(xml);
  if (!(value instanceof Map)) throw new AppError("MALFORMED_XML", `${field} holds no dictionary.`);
  return Object.fromEntries([...value].map(([key, item]) => [toText(key), toText(item)]));
}

/** What Python's `str` makes of a scalar; anything nested travels as JSON. */
function toText(value: MarshalValue): string {
  if (typeof value === "string") return value;
  if (value === null) return "";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (value instanceof MarshalFloat) return pythonFloat(value.value);
  return JSON.stringify(toJson(value));
}

function toJson(value: MarshalValue): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [toText(key), toJson(item)]));
  if (value instanceof Set) return [...value].map(toJson);
  if (value instanceof MarshalTuple) return value.items.map(toJson);
  if (value instanceof MarshalFloat) return value.value;
  if (value instanceof MarshalObject) return null;
  if (typeof value === "bigint") return String(value);
  return Array.isArray(value) ? value.map(toJson) : value;
}

export function decodeState(xml: string | null): RequestedState | null {
  const value = xml === null ? null : decode(xml);
  if (value === null || value === "None" || value === "") return null;
  const state = typeof value === "string" ? value.toUpperCase() : "";
  if (state === "STARTED" || state === "STOPPED" || state === "DESTROYED") return state;
  throw new AppError("BAD_USER_INPUT", "A requested state is started, stopped or destroyed.");
}

export function decodeFlag(xml: string | null): boolean {
  return xml === null ? false : decode(xml) === true;
}

/** The dictionary that `slapos node format` posts. Everything but the references is optional (§3). */
export function decodeFormat(xml: string): FormatReport {
  const root = decode(xml);
  const reference = textOf(root, "reference");
  if (!reference) throw new AppError("MALFORMED_XML", "The computer's dictionary has no reference.");
  const list = itemOf(root, "partition_list");
  const partitions = (Array.isArray(list) ? list : []).map((item) => {
    const name = textOf(item, "reference");
    if (!name || !isPartitionReference(name))
      throw new AppError("MALFORMED_XML", "A partition has no usable reference.");
    const tap = itemOf(item, "tap");
    const interfaceName = textOf(tap, "name") || name;
    const addressList = itemOf(item, "address_list");
    const addresses = (Array.isArray(addressList) ? addressList : []).flatMap((address): InterfaceAddress[] => {
      const ip = textOf(address, "addr");
      return ip ? [[interfaceName, ip]] : [];
    });
    const routed = textOf(tap, "ipv4_addr");
    const routedAddresses: RoutedAddress[] = routed
      ? [
          [
            `route_${interfaceName}`,
            routed,
            textOf(tap, "ipv4_gateway") ?? "",
            textOf(tap, "ipv4_netmask") ?? "",
            textOf(tap, "ipv4_network") ?? "",
          ],
        ]
      : [];
    const capabilityList = itemOf(item, "capability_list");
    const capabilities = (Array.isArray(capabilityList) ? capabilityList : []).filter((one) => typeof one === "string");
    return { reference: name, addresses, routedAddresses, capabilities };
  });
  if (new Set(partitions.map((partition) => partition.reference)).size !== partitions.length) {
    throw new AppError("MALFORMED_XML", "Two partitions have the same reference.");
  }
  return {
    reference,
    slaposVersion: textOf(root, "slapos_version"),
    pythonVersion: textOf(root, "python_version"),
    osType: textOf(root, "os_type"),
    partitions,
  };
}

/** What a partition may be called: it is half of its key, so without a slash. */
export function isPartitionReference(name: string): boolean {
  return /^[A-Za-z0-9._-]([A-Za-z0-9._ -]{0,62}[A-Za-z0-9._-])?$/.test(name);
}

function itemOf(dictionary: MarshalValue | undefined, key: string): MarshalValue | undefined {
  return dictionary instanceof Map ? dictionary.get(key) : undefined;
}

function textOf(dictionary: MarshalValue | undefined, key: string): string | null {
  const value = itemOf(dictionary, key);
  return typeof value === "string" && value !== "" ? value : null;
}

/**
 * What the node gets as parameters. Those requested over SLAP are text to text already. Those of GraphQL that are all
 * plain go key by key as text; as soon as one is nested the whole goes as JSON under `_`, which is what releases with
 * `json-in-xml` serialisation read.
 */
export function toWireParameters(parameters: Record<string, unknown>): Record<string, string> {
  const entries = Object.entries(parameters);
  if (entries.some(([, value]) => typeof value === "object" && value !== null))
    return { _: JSON.stringify(parameters) };
  return Object.fromEntries(
    entries
      .filter(([, value]) => value !== null)
      .map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}

/** The text that decides whether the node reports again: `#access` when all is well, `#error` when it is not (§5.2). */
export function accessStatus({
  partition,
  instance,
}: {
  partition: PartitionRow | null;
  instance: InstanceRow | null;
}): string {
  const nothing = `#error no data found for ${instance?.reference ?? partition?.key}`;
  if (instance?.isShared) {
    if (instance.reportedState === "ERROR") return `#error while instanciating: ${instance.reference}`;
    return instance.reportedState === "STARTED" ? "#access Instance correctly started" : nothing;
  }
  switch (partition?.state) {
    case "STARTED":
      return "#access Instance correctly started";
    case "STOPPED":
      return "#access Instance correctly stopped";
    case "ERROR":
      return `#error while instanciating: ${(partition.message ?? "").slice(-80)}`;
    case "DESTROYING":
      return "#access Instance correctly stopped";
    default:
      return nothing;
  }
}

/** The ERP5 master's texts (§2.1). */
export function installationStatus({ url, reportedState }: InstallationRow): string {
  switch (reportedState) {
    case "AVAILABLE":
      return `#access software release ${url} available`;
    case "BUILDING":
      return `#building software release ${url}`;
    case "ERROR":
      return `#error while installing ${url}`;
    case "DESTROYED":
      return `#access software release ${url} destroyed`;
    default:
      return `#error no data found for ${url}`;
  }
}

export function computerStatus({ reference, liveness }: ComputerRow): string {
  return liveness === "ONLINE" ? `#access ${reference} is online` : `#error ${reference} is ${liveness.toLowerCase()}`;
}

/** What getComputerStatus and its kin answer: a text that begins with #access, #building or #error, and since when. */
export function statusOf(reference: string, text: string, since: Date): DumpableRecord {
  return { created_at: since.toUTCString(), since: since.toUTCString(), reference, text, user: "SlapOS Master" };
}

/** The partitions are written already: of a hundred, mostly one has changed. */
export function encodeComputer(view: NodeView, partitions: readonly MarshalPart[]): MarshalObject {
  const releases = view.installations
    .filter(
      (installation) => !(installation.requestedState === "DESTROYED" && installation.reportedState === "DESTROYED"),
    )
    .map((installation) => encodeRelease(installation.url, view.reference, installation.requestedState.toLowerCase()));
  return new MarshalObject("Computer", [view.reference], {
    _computer_id: view.reference,
    _computer_partition_list: partitions,
    _software_release_list: releases,
  });
}

function encodeRelease(url: string, computerReference: string, requestedState?: string): MarshalObject {
  return new MarshalObject("SoftwareRelease", [url, computerReference], {
    _computer_guid: computerReference,
    ...(requestedState ? { _requested_state: requestedState } : {}),
    _software_instance_list: [],
    _software_release: url,
  });
}

export function encodePartition(hosted: HostedPartition): MarshalObject {
  const { partition, instance } = hosted;
  const constructorArguments = [partition.computerReference, partition.reference, null];
  const identity = {
    _computer_id: partition.computerReference,
    _partition_id: partition.reference,
    _request_dict: null,
  };
  if (!instance) {
    return new MarshalObject("ComputerPartition", constructorArguments, {
      ...identity,
      _need_modification: 0,
      _requested_state: "destroyed",
      _software_release_document: null,
    });
  }
  return new MarshalObject("ComputerPartition", constructorArguments, {
    ...identity,
    _access_status: accessStatus(hosted),
    _connection_dict: instance.connectionParameters,
    _filter_dict: instance.filter,
    _instance_guid: instance.reference,
    _need_modification: 1,
    _parameter_dict: parameterDictionary(hosted, instance),
    _requested_state: instance.requestedState.toLowerCase(),
    _software_release_document: encodeRelease(instance.releaseUrl, partition.computerReference),
    _synced: true,
  });
}

/** The instance's parameters flattened with what the master tells of its place, which wins over a parameter of the same name. */
function parameterDictionary({ partition, root, shared }: HostedPartition, instance: InstanceRow): DumpableRecord {
  return {
    ...toWireParameters(instance.parameters),
    full_ip_list: partition.routedAddresses.map((address) => new MarshalTuple(address)),
    instance_title: instance.title,
    ip_list: ipList(partition),
    root_instance_short_title: root?.reference ?? instance.reference,
    root_instance_title: root?.title ?? instance.title,
    slap_computer_id: partition.computerReference,
    slap_computer_partition_id: partition.reference,
    slap_software_release_url: instance.releaseUrl,
    slap_software_type: instance.softwareType,
    slave_instance_list: shared.map(sharedEntry),
    timestamp: partition.revision,
  };
}

/** A shared instance as its host reads it: its parameters, and what the host has published for it, in one flat dictionary. */
function sharedEntry(shared: InstanceRow): DumpableRecord {
  return {
    ...shared.connectionParameters,
    ...toWireParameters(shared.parameters),
    slap_software_type: shared.softwareType,
    slave_reference: shared.reference,
    slave_title: shared.title,
    timestamp: shared.revision,
  };
}

const ipList = (partition: PartitionRow) => partition.addresses.map((address) => new MarshalTuple(address));

/** The answer to requestComputerPartition. */
export function encodeInstance(instance: InstanceRow, partition: PartitionRow): MarshalObject {
  return new MarshalObject("SoftwareInstance", [], {
    _connection_dict: instance.connectionParameters,
    _filter_dict: instance.filter,
    _instance_guid: instance.reference,
    _parameter_dict: toWireParameters(instance.parameters),
    _requested_state: instance.requestedState.toLowerCase(),
    full_ip_list: partition.routedAddresses.map((address) => new MarshalTuple(address)),
    instance_title: instance.title,
    ip_list: ipList(partition),
    slap_computer_id: partition.computerReference,
    slap_computer_partition_id: partition.reference,
    slap_software_release_url: instance.releaseUrl,
    slap_software_type: instance.softwareType,
    timestamp: instance.isShared ? instance.revision : partition.revision,
  });
}

/** `<computer>/<partition>` in the bounds of a computer's and a partition's reference. */
export function partitionKeyOf(computerReference: string, partitionReference: string): string {
  return `${computerReference}/${partitionReference}`;
}
