import { Arg, Args, Ctx, FieldResolver, Query, Resolver, Root, Subscription } from "type-graphql";
import type { StreamItem } from "../../../common/event-stream.js";
import { toGlobalId } from "../../../common/global-id.js";
import { AfterArgs } from "../../../common/pagination.type.js";
import { toComputer } from "../computer/computer.resolver.js";
import { Computer } from "../computer/computer.type.js";
import type { ComputerContext } from "../context.js";
import { toInstance } from "../instance/instance.resolver.js";
import { SoftwareInstance } from "../instance/instance.type.js";
import { mayHearOfPartition } from "../visibility.js";
import type { PartitionRow } from "./partition.service.js";
import type { PartitionState } from "./partition.state.js";
import { ComputerPartition, PartitionStateChange, PartitionStateEvent } from "./partition.type.js";

export function toPartition(row: PartitionRow): ComputerPartition {
  return {
    id: toGlobalId("ComputerPartition", row.key),
    key: row.key,
    reference: row.reference,
    state: row.state,
    since: row.stateSince,
    message: row.message ?? null,
    revision: row.revision,
    addresses: row.addresses.map(([interfaceName, address]) => ({ interfaceName, address })),
    capabilities: row.capabilities,
    computerReference: row.computerReference,
    instanceReference: row.instanceReference ?? null,
  };
}

@Resolver(() => ComputerPartition)
export class PartitionResolver {
  @Query(() => ComputerPartition, {
    nullable: true,
    description: "One partition; null if there is none for this caller.",
  })
  async partition(
    @Arg("key", () => String, { description: "The Partition Key: `COMP-1/slappart0`." }) key: string,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<ComputerPartition | null> {
    const row = await loaders.partitions.load(key);
    return row && toPartition(row);
  }

  @FieldResolver(() => Computer, { nullable: true, description: "The computer that it is on." })
  async computer(@Root() partition: ComputerPartition, @Ctx() { loaders }: ComputerContext): Promise<Computer | null> {
    const row = await loaders.computers.load(partition.computerReference);
    return row && toComputer(row);
  }

  @FieldResolver(() => SoftwareInstance, { nullable: true, description: "The instance in it; null while it is free." })
  async instance(
    @Root() partition: ComputerPartition,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<SoftwareInstance | null> {
    if (partition.instanceReference === null) return null;
    const row = await loaders.instances.load(partition.instanceReference);
    return row && toInstance(row);
  }

  @Subscription(() => PartitionStateEvent, {
    description: "Changes of partitions' states, in the order of the log. Errors: BAD_CURSOR, RESUME_EXPIRED.",
    subscribe: ({ args, context }) => followPartitions(args as AfterArgs, context as ComputerContext),
  })
  partitionStateChanged(
    @Root() event: StreamItem<PartitionStateChange>,
    @Args(() => AfterArgs) _args: AfterArgs,
  ): PartitionStateEvent {
    return event;
  }
}

/** What is not asked for is not read: most of a thousand subscribers want the state that the event itself carries. */
@Resolver(() => PartitionStateChange)
export class PartitionStateChangeResolver {
  @FieldResolver(() => ComputerPartition, {
    nullable: true,
    description: "The partition as it is when the event is delivered.",
  })
  async partition(
    @Root() { key }: PartitionStateChange,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<ComputerPartition | null> {
    const row = await loaders.partitions.load(key);
    return row && toPartition(row);
  }
}

function followPartitions(args: AfterArgs, { caller, loaders }: ComputerContext) {
  return loaders.follow(args.after, ({ kind, subject, project, payload, cause }): PartitionStateChange | null => {
    if (kind !== "PartitionStateChanged") return null;
    const { from, to, instance, owner } = payload as {
      from: PartitionState;
      to: PartitionState;
      instance: string | null;
      owner: string | null;
    };
    if (!mayHearOfPartition(caller, { key: subject, project, owner, instanceReference: instance })) return null;
    return { key: subject, from, to, cause };
  });
}
