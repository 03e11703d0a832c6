import { Arg, Args, Ctx, FieldResolver, Mutation, Query, Resolver, Root } from "type-graphql";
import { AppError } from "../../../common/errors.js";
import { toGlobalId } from "../../../common/global-id.js";
import type { Caller } from "../../../common/identity.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { ComputerContext } from "../context.js";
import { toPartition } from "../partition/partition.resolver.js";
import { ComputerPartition } from "../partition/partition.type.js";
import { mayReadConnection } from "../visibility.js";
import { reasonsAgainstFilter } from "./allocate.js";
import type { InstanceRow, InstanceService } from "./instance.service.js";
import type { RequestedState } from "./instance.state.js";
import {
  AllocationCandidate,
  AllocationCandidateConnection,
  type AllocationCandidatePage,
  ExplainAllocationArgs,
  InstanceConnection,
  type InstancePage,
  InstancePayload,
  InstanceReferenceInput,
  RenameInstanceInput,
  RequestInstanceInput,
  SoftwareInstance,
} from "./instance.type.js";
import { SoftwareRelease, toSoftwareRelease } from "./software-release.stub.js";

export function toInstance(row: InstanceRow): SoftwareInstance {
  return {
    id: toGlobalId("SoftwareInstance", row.reference),
    reference: row.reference,
    title: row.title,
    project: row.project,
    owner: row.owner,
    shared: row.isShared,
    softwareType: row.softwareType,
    requestedState: row.requestedState,
    reportedState: row.reportedState,
    allocation: row.allocation,
    pendingReasons: row.pendingReasons,
    parameters: row.parameters,
    connectionParameters: row.connectionParameters,
    filter: row.filter,
    createdAt: row.createdAt,
    releaseUrl: row.releaseUrl,
    partitionKey: row.partitionKey ?? null,
    parentReference: row.parentReference ?? null,
    rootReference: row.rootReference,
  };
}

@Resolver(() => SoftwareInstance)
export class InstanceResolver {
  readonly #service: InstanceService;

  constructor(service: InstanceService) {
    this.#service = service;
  }

  @Query(() => SoftwareInstance, {
    nullable: true,
    description: "One instance; null if there is none for this caller.",
  })
  async instance(
    @Arg("reference", () => String, { description: "The instance's reference." }) reference: string,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<SoftwareInstance | null> {
    const row = await loaders.instances.load(reference);
    return row && toInstance(row);
  }

  @Query(() => InstanceConnection, {
    nullable: true,
    description: "The living instances that the caller sees, by reference.",
  })
  async instances(@Args(() => PageArgs) args: PageArgs, @Ctx() { caller }: ComputerContext): Promise<InstancePage> {
    const page = toPage(args);
    return toConnection(await this.#service.instances(caller, page), page, (row) => row.reference, toInstance);
  }

  @Query(() => AllocationCandidateConnection, {
    nullable: true,
    description:
      "Why each partition of the project would or would not be taken, by key: for an instance, or for a request that nobody has made. Errors: NOT_FOUND, BAD_USER_INPUT, FORBIDDEN.",
  })
  async explainAllocation(
    @Args(() => ExplainAllocationArgs) { instance, request, ...args }: ExplainAllocationArgs,
    @Ctx() { caller }: ComputerContext,
  ): Promise<AllocationCandidatePage> {
    const page = toPage(args);
    if ((instance == null) === (request == null))
      throw new AppError("BAD_USER_INPUT", "Give exactly one of `instance` and `request`.");
    const rows =
      instance != null
        ? await this.#service.explainAllocationOf(caller, instance, page)
        : await this.#service.explainRequest(caller, toRequest(request as RequestInstanceInput, toText), page);
    return toConnection(
      rows,
      page,
      (row) => row.key,
      (row) => row,
    );
  }

  @FieldResolver(() => SoftwareRelease, { description: "The release that it is an instance of." })
  softwareRelease(@Root() instance: SoftwareInstance): SoftwareRelease {
    return toSoftwareRelease(instance.releaseUrl);
  }

  @FieldResolver(() => ComputerPartition, { nullable: true, description: "Its partition; null while it has none." })
  async partition(
    @Root() instance: SoftwareInstance,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<ComputerPartition | null> {
    if (instance.partitionKey === null) return null;
    const row = await loaders.partitions.load(instance.partitionKey);
    return row && toPartition(row);
  }

  @FieldResolver(() => SoftwareInstance, {
    nullable: true,
    description: "The root of its tree; itself if it is the root.",
  })
  async root(
    @Root() instance: SoftwareInstance,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<SoftwareInstance | null> {
    const row = await loaders.instances.load(instance.rootReference);
    return row && toInstance(row);
  }

  @FieldResolver(() => SoftwareInstance, {
    nullable: true,
    description: "The instance that requested it; null for a root.",
  })
  async parent(
    @Root() instance: SoftwareInstance,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<SoftwareInstance | null> {
    if (instance.parentReference === null) return null;
    const row = await loaders.instances.load(instance.parentReference);
    return row && toInstance(row);
  }

  @FieldResolver(() => [SoftwareInstance], {
    description: "The living instances that it requested, at most 100 in a tree.",
  })
  async children(@Root() instance: SoftwareInstance, @Ctx() { loaders }: ComputerContext): Promise<SoftwareInstance[]> {
    return (await loaders.children.load(instance.reference)).map(toInstance);
  }

  @FieldResolver()
  connectionParameters(
    @Root() instance: SoftwareInstance,
    @Ctx() { caller }: ComputerContext,
  ): Record<string, string> | null {
    return mayReadConnection(caller) ? instance.connectionParameters : null;
  }

  @Mutation(() => InstancePayload, {
    description:
      "Requests an instance, or changes the one with this title. Idempotent. Without a fitting free partition it is made and stays PENDING. User errors: BAD_USER_INPUT, STATE_CONFLICT, FORBIDDEN.",
  })
  async requestInstance(
    @Arg("input", () => RequestInstanceInput, { description: "What is wanted." }) input: RequestInstanceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<InstancePayload> {
    return toPayload(async () => {
      const row = await this.#service.requestInstance(caller, toRequest(input, toFilter));
      return { instance: toInstance(row) };
    });
  }

  @Mutation(() => InstancePayload, { description: "Wants an instance and its descendants started. Idempotent." })
  async startInstance(
    @Arg("input", () => InstanceReferenceInput, { description: "Which instance." }) input: InstanceReferenceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<InstancePayload> {
    return this.#request(caller, input, "STARTED");
  }

  @Mutation(() => InstancePayload, { description: "Wants an instance and its descendants stopped. Idempotent." })
  async stopInstance(
    @Arg("input", () => InstanceReferenceInput, { description: "Which instance." }) input: InstanceReferenceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<InstancePayload> {
    return this.#request(caller, input, "STOPPED");
  }

  @Mutation(() => InstancePayload, {
    description: "Wants an instance and its descendants removed with their data. Idempotent, and final.",
  })
  async destroyInstance(
    @Arg("input", () => InstanceReferenceInput, { description: "Which instance." }) input: InstanceReferenceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<InstancePayload> {
    return this.#request(caller, input, "DESTROYED");
  }

  @Mutation(() => InstancePayload, {
    description: "Gives an instance another title. User errors: ALREADY_EXISTS, NOT_FOUND.",
  })
  async renameInstance(
    @Arg("input", () => RenameInstanceInput, { description: "Which instance, and its new title." })
    input: RenameInstanceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<InstancePayload> {
    return toPayload(async () => ({
      instance: toInstance(await this.#service.renameInstance(caller, input.reference, input.title)),
    }));
  }

  #request(caller: Caller, input: InstanceReferenceInput, state: RequestedState): Promise<InstancePayload> {
    return toPayload(async () => ({
      instance: toInstance(await this.#service.setRequestedState(caller, input.reference, state)),
    }));
  }
}

function toObject(given: unknown, name: "parameters" | "filter"): Record<string, unknown> {
  if (given == null) return {};
  if (typeof given === "object" && !Array.isArray(given)) return given as Record<string, unknown>;
  throw new AppError("BAD_USER_INPUT", `What is given as ${name} is an object.`, {
    details: { path: ["input", name] },
  });
}

function toRequest(input: RequestInstanceInput, filterOf: (input: RequestInstanceInput) => Record<string, string>) {
  return {
    title: input.title,
    releaseUrl: input.releaseUrl,
    softwareType: input.softwareType,
    parameters: toObject(input.parameters, "parameters"),
    filter: filterOf(input),
    requestedState: input.requestedState ?? null,
    project: input.project,
    isShared: input.shared,
  };
}

function toText(input: RequestInstanceInput): Record<string, string> {
  const filter: Record<string, string> = {};
  for (const [key, value] of Object.entries(toObject(input.filter, "filter"))) {
    if (!["string", "number", "boolean"].includes(typeof value)) {
      throw new AppError("BAD_USER_INPUT", `The filter ${key.slice(0, 80)} is a text.`, {
        details: { path: ["input", "filter"] },
      });
    }
    filter[key] = String(value);
  }
  if (input.computerReference != null) filter.computer_guid = input.computerReference;
  return filter;
}

/** Over GraphQL an unknown key is refused at once; over SLAP the instance stays pending with that as its reason. */
function toFilter(input: RequestInstanceInput): Record<string, string> {
  const filter = toText(input);
  const [reason] = reasonsAgainstFilter(filter);
  if (reason) throw new AppError("BAD_USER_INPUT", reason.message, { details: { path: ["input", "filter"] } });
  return filter;
}

@Resolver(() => AllocationCandidate)
export class AllocationCandidateResolver {
  @FieldResolver(() => ComputerPartition, {
    nullable: true,
    description: "The partition; null where the caller may not see what is in it.",
  })
  async partition(
    @Root() candidate: AllocationCandidate,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<ComputerPartition | null> {
    const row = await loaders.partitions.load(candidate.key);
    return row && toPartition(row);
  }
}
