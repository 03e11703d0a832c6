import { GraphQLJSON } from "graphql-scalars";
import { ArgsType, Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { graphqlEnum } from "../../../common/enum.type.js";
import { type Connection, connectionTypes, PageArgs } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";
import type { AllocationState as Allocation, ReportedState, RequestedState } from "./instance.state.js";

export const RequestedInstanceState = graphqlEnum<RequestedState>(
  "RequestedInstanceState",
  "What is wanted of an instance.",
  {
    STARTED: "Its services run.",
    STOPPED: "It is configured and its services do not run.",
    DESTROYED: "It is removed with its data. There is no way back.",
  },
);

export const ReportedInstanceState = graphqlEnum<ReportedState>(
  "ReportedInstanceState",
  "What the node last said of an instance.",
  {
    NONE: "Nothing yet.",
    STARTED: "Its services run and its promises pass.",
    STOPPED: "Its services do not run.",
    ERROR: "It cannot be processed, or a promise fails.",
    DESTROYED: "It was removed.",
  },
);

export const AllocationState = graphqlEnum<Allocation>("AllocationState", "Whether an instance has a partition.", {
  PENDING: "It waits for a partition; `pendingReasons` says why.",
  ALLOCATED: "It has a partition.",
  RELEASED: "It had one and was destroyed, or was withdrawn before it got one.",
});

@ObjectType({ description: "Why a candidate for an allocation is not taken." })
export class PendingReason {
  @Field({
    description:
      "The constraint that is not met: a filter key, or project, scope, state, host (of a shared instance), or filter for a key that is not known.",
  })
  constraint!: string;

  @Field({ description: "The constraint in words, naming the candidate." })
  message!: string;
}

@ObjectType({ description: "A running, or wanted, instance of a software release." })
@Directive('@key(fields: "id")')
export class SoftwareInstance {
  @Field(() => ID, { description: "Global id; its natural key is the reference." })
  id!: string;

  @Field({ description: "`SOFTINST-n`" })
  reference!: string;

  @Field({ description: "Unique among its owner's roots, or within its tree." })
  title!: string;

  @Field({ description: "The name of the project that it belongs to." })
  project!: string;

  @Field({ description: "The subject that requested the root of its tree." })
  owner!: string;

  @Field({ description: "It has no partition of its own: `partition` is that of the instance that hosts it." })
  shared!: boolean;

  @Field({ description: "Which of the release's instance profiles it uses." })
  softwareType!: string;

  @Field(() => RequestedInstanceState, { description: "What is wanted." })
  requestedState!: RequestedState;

  @Field(() => ReportedInstanceState, { description: "What its node last said." })
  reportedState!: ReportedState;

  @Field(() => AllocationState, { description: "Whether it has a partition." })
  allocation!: Allocation;

  @Field(() => [PendingReason], { description: "While PENDING: why no candidate is taken, up to 20. Empty otherwise." })
  pendingReasons!: PendingReason[];

  @Field(() => GraphQLJSON, {
    description:
      "Its parameters as they were requested. Those requested over SLAP are text to text; a release that takes JSON has it under `_`.",
  })
  parameters!: Record<string, unknown>;

  @Field(() => GraphQLJSON, {
    nullable: true,
    description:
      "What it published, text to text; a release that publishes JSON has it under `_`. Null to viewers: it often holds credentials.",
  })
  connectionParameters!: Record<string, string> | null;

  @Field(() => GraphQLJSON, { description: "The filter that chooses its partition (SLA), text to text." })
  filter!: Record<string, string>;

  @Field(() => GraphQLISODateTime, { description: "When it was first requested." })
  createdAt!: Date;

  releaseUrl!: string;
  partitionKey!: string | null;
  parentReference!: string | null;
  rootReference!: string;
}

export const { ConnectionType: InstanceConnection } = connectionTypes("SoftwareInstance", () => SoftwareInstance);
export type InstancePage = Connection<SoftwareInstance>;

@InputType({ description: "A request for an instance. The same title again changes the instance that has it." })
export class RequestInstanceInput {
  @Field({ description: "Names it among the owner's roots; 1 to 200 characters." })
  title!: string;

  @Field({ description: "The release's url." })
  releaseUrl!: string;

  @Field({ nullable: true, defaultValue: "default", description: "Which of the release's instance profiles." })
  softwareType!: string;

  @Field(() => GraphQLJSON, {
    nullable: true,
    description:
      "An object. Plain texts, numbers and booleans reach the node key by key as text; an object with anything nested reaches it as JSON under `_`. Up to 262,144 bytes.",
  })
  parameters?: Record<string, unknown> | null;

  @Field(() => GraphQLJSON, {
    nullable: true,
    description:
      "SLA filter, text to text: `computer_guid`, `instance_guid` (a shared instance's host), `project_guid`, `capability`, `mode` (`unique_by_network`) and the attributes of `setComputerAttributes`. A key that is not known is a user error.",
  })
  filter?: Record<string, unknown> | null;

  @Field(() => String, { nullable: true, description: "Short for the filter `computer_guid`." })
  computerReference?: string | null;

  @Field(() => RequestedInstanceState, {
    nullable: true,
    description: "Default: STARTED for a new instance, else as it was.",
  })
  requestedState?: RequestedState | null;

  @Field(() => String, {
    nullable: true,
    description: "The project. Default: the caller's; `main` for the administrator.",
  })
  project?: string | null;

  @Field({
    nullable: true,
    defaultValue: false,
    description:
      "Whether it is a shared instance: it lives in a started instance of the same release and type. Cannot change later.",
  })
  shared!: boolean;
}

@ObjectType({ description: "A partition that an allocation could use, with all that speaks against it." })
export class AllocationCandidate {
  @Field({ description: "The partition's key." })
  key!: string;

  @Field({ description: "Its computer's reference." })
  computerReference!: string;

  @Field(() => [PendingReason], { description: "Every reason why it is not taken; empty when it could be." })
  reasons!: PendingReason[];
}

export const { ConnectionType: AllocationCandidateConnection } = connectionTypes(
  "AllocationCandidate",
  () => AllocationCandidate,
);
export type AllocationCandidatePage = Connection<AllocationCandidate>;

@ArgsType()
export class ExplainAllocationArgs extends PageArgs {
  @Field(() => String, { nullable: true, description: "The reference of an instance. Give this or `request`." })
  instance?: string | null;

  @Field(() => RequestInstanceInput, { nullable: true, description: "A request as it would be made." })
  request?: RequestInstanceInput | null;
}

@InputType({ description: "Which instance." })
export class InstanceReferenceInput {
  @Field({ description: "The instance's reference." })
  reference!: string;
}

@InputType({ description: "An instance and its new title." })
export class RenameInstanceInput {
  @Field({ description: "The instance's reference." })
  reference!: string;

  @Field({ description: "The new title, 1 to 200 characters." })
  title!: string;
}

@ObjectType({ description: "What a command about an instance did." })
export class InstancePayload {
  @Field(() => SoftwareInstance, { nullable: true, description: "The instance, null if refused." })
  instance!: SoftwareInstance | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}
