import { defineEntity, p } from "@mikro-orm/core";
import { partitionStates } from "./partition.state.js";

/** An address of a partition: the network interface's name and the IP on it. */
export type InterfaceAddress = [interfaceName: string, address: string];

/** A routed address: interface, address, gateway, netmask, network. */
export type RoutedAddress = [interfaceName: string, address: string, gateway: string, netmask: string, network: string];

export const PartitionEntity = defineEntity({
  name: "ComputerPartition",
  tableName: "partition",
  properties: {
    /** `COMP-1/slappart0` */
    key: p.text().primary(),
    computerReference: p.text(),
    reference: p.text(),
    project: p.text(),
    state: p.enum(partitionStates),
    stateSince: p.datetime(),
    /** The node's last word, for people; what it means is in the state. */
    message: p.text().nullable(),
    /** SLAP's `timestamp`: strictly increasing microseconds, raised when the node has to process the partition again. */
    revision: p.bigint("number"),
    capabilities: p.json<string[]>(),
    addresses: p.json<InterfaceAddress[]>(),
    routedAddresses: p.json<RoutedAddress[]>(),
    /** False once a format no longer lists it: an allocation in it goes on, a new one never comes. */
    isListed: p.boolean(),
    instanceReference: p.text().nullable(),
    /** Whose instance is in it: the owner of that instance's tree. */
    owner: p.text().nullable(),
  },
});
