import { Ctx, FieldResolver, GraphQLISODateTime, Resolver, Root, registerEnumType } from "type-graphql";
import { naturalKeyOf } from "../../../common/global-id.js";
import { toBang } from "../bang/bang.resolver.js";
import { Bang } from "../bang/bang.type.js";
import type { MonitoringContext } from "../context.js";
import { Computer } from "./computer.stub.js";
import { ComputerPartition } from "./computer-partition.stub.js";
import type { Health } from "./health.state.js";

const PartitionHealth = { GREEN: "GREEN", RED: "RED", UNKNOWN: "UNKNOWN" } as const;

registerEnumType(PartitionHealth, {
  name: "PartitionHealth",
  description: "How a partition is, by what its node reports.",
  valuesConfig: {
    GREEN: { description: "The node's last report says that all is well." },
    RED: { description: "The node reported an error, or banged and has not reported since." },
    UNKNOWN: { description: "Nothing was reported yet, or the node is suspect or lost." },
  },
});

/** What monitoring adds to partitions. Nullable, so that the rest is answered when monitoring is down. */
@Resolver(() => ComputerPartition)
export class PartitionHealthResolver {
  @FieldResolver(() => PartitionHealth, {
    nullable: true,
    description: "Its health; null if it never held an instance.",
  })
  async health(@Root() partition: ComputerPartition, @Ctx() { loaders }: MonitoringContext): Promise<Health | null> {
    return (await loaders.health.load(keyOf(partition)))?.health ?? null;
  }

  @FieldResolver(() => GraphQLISODateTime, { nullable: true, description: "When its health last changed." })
  async healthSince(@Root() partition: ComputerPartition, @Ctx() { loaders }: MonitoringContext): Promise<Date | null> {
    return (await loaders.health.load(keyOf(partition)))?.since ?? null;
  }

  @FieldResolver(() => String, { nullable: true, description: "Why it is RED; null otherwise." })
  async healthMessage(
    @Root() partition: ComputerPartition,
    @Ctx() { loaders }: MonitoringContext,
  ): Promise<string | null> {
    return (await loaders.health.load(keyOf(partition)))?.message ?? null;
  }

  @FieldResolver(() => Bang, {
    nullable: true,
    description: "The last bang of the instance that is in it; it stays after the healing.",
  })
  async lastBang(@Root() partition: ComputerPartition, @Ctx() { loaders }: MonitoringContext): Promise<Bang | null> {
    const row = await loaders.lastBangs.load(keyOf(partition));
    return row && toBang(row);
  }
}

@Resolver(() => Computer)
export class ComputerBangResolver {
  @FieldResolver(() => Bang, { nullable: true, description: "The last bang of the whole computer." })
  async lastBang(@Root() computer: Computer, @Ctx() { loaders }: MonitoringContext): Promise<Bang | null> {
    const row = await loaders.lastComputerBangs.load(naturalKeyOf("Computer", computer.id));
    return row && toBang(row);
  }
}

function keyOf(partition: ComputerPartition): string {
  return naturalKeyOf("ComputerPartition", partition.id);
}
