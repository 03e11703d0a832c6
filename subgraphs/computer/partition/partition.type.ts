import { Directive, Field, Float, GraphQLISODateTime, ID, ObjectType } from "type-graphql";
import { graphqlEnum } from "../../../common/enum.type.js";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import type { PartitionState as State } from "./partition.state.js";

export const PartitionState = graphqlEnum<State>(
  "PartitionState",
  "What a computer partition is doing, by allocation and the node's reports.",
  {
    FREE: "It holds no instance.",
    ALLOCATED: "It holds an instance of which nothing was reported yet.",
    STARTED: "The node reported the instance started, its promises passing.",
    STOPPED: "The node reported the instance stopped.",
    ERROR: "The node reported that the instance cannot be processed or a promise fails.",
    DESTROYING: "The instance's destruction was requested and the node has not finished it.",
  },
);

@ObjectType({ description: "An IP address of a partition." })
export class PartitionAddress {
  @Field({ description: "The network interface that it is on." })
  interfaceName!: string;

  @Field({ description: "The IPv4 or IPv6 address." })
  address!: string;
}

@ObjectType({ description: "A slot of a computer that holds at most one instance." })
@Directive('@key(fields: "id")')
export class ComputerPartition {
  @Field(() => ID, { description: "Global id; its natural key is the partition key." })
  id!: string;

  @Field({ description: "The Partition Key: `COMP-1/slappart0`." })
  key!: string;

  @Field({ description: "Its name on its computer: `slappart0`." })
  reference!: string;

  @Field(() => PartitionState, { description: "What it is doing." })
  state!: State;

  @Field(() => GraphQLISODateTime, { description: "When the state last changed." })
  since!: Date;

  @Field(() => String, {
    nullable: true,
    description: "The node's last message, up to 5,000 characters: why it is in ERROR.",
  })
  message!: string | null;

  @Field(() => Float, {
    description:
      "Strictly increasing integer in microseconds: SLAP's `timestamp`. It grows when the node has to process it again.",
  })
  revision!: number;

  @Field(() => [PartitionAddress], { description: "Its addresses, as formatted." })
  addresses!: PartitionAddress[];

  @Field(() => [String], {
    description: "Capabilities that it is kept for; a request names one as filter `capability`.",
  })
  capabilities!: string[];

  computerReference!: string;
  instanceReference!: string | null;
}

export const { ConnectionType: PartitionConnection } = connectionTypes("ComputerPartition", () => ComputerPartition);
export type PartitionPage = Connection<ComputerPartition>;

@ObjectType({ description: "A change of a partition's state." })
export class PartitionStateChange {
  @Field(() => PartitionState, { description: "The state before." })
  from!: State;

  @Field(() => PartitionState, { description: "The state after." })
  to!: State;

  @Field(() => String, { nullable: true, description: "Why, where there is a reason: the node's message." })
  cause!: string | null;

  /** Of the partition that changed, which is read where it is asked for. */
  key!: string;
}

@ObjectType({ description: "An event of `partitionStateChanged`, or a bookmark when `change` is null." })
export class PartitionStateEvent {
  @Field({ description: "Pass it as `after` to resume just behind this event." })
  cursor!: string;

  @Field(() => GraphQLISODateTime, { description: "When it happened; for a bookmark, when it was sent." })
  at!: Date;

  @Field(() => PartitionStateChange, { nullable: true, description: "What changed; null in a bookmark." })
  change!: PartitionStateChange | null;
}
