import { Arg, Args, Ctx, FieldResolver, Mutation, Query, Resolver, Root, Subscription } from "type-graphql";
import type { StreamItem } from "../../../common/event-stream.js";
import { toGlobalId } from "../../../common/global-id.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { AfterArgs, PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { ComputerContext } from "../context.js";
import { toInstallation } from "../installation/installation.resolver.js";
import { InstallationConnection, type InstallationPage } from "../installation/installation.type.js";
import { toInstance } from "../instance/instance.resolver.js";
import { InstanceConnection, type InstancePage } from "../instance/instance.type.js";
import { toPartition } from "../partition/partition.resolver.js";
import { PartitionConnection, type PartitionPage } from "../partition/partition.type.js";
import { toUsageReport, UsageReportConnection, type UsageReportPage } from "../usage/usage.type.js";
import { mayHearOfComputer } from "../visibility.js";
import type { ComputerRow, ComputerService } from "./computer.service.js";
import type { Liveness } from "./computer.state.js";
import {
  Computer,
  ComputerConnection,
  type ComputerPage,
  ComputerPayload,
  ComputerReferenceInput,
  ComputerStateChange,
  ComputerStateEvent,
  CreateComputerInput,
  CreateComputerPayload,
  SetComputerAttributesInput,
} from "./computer.type.js";

export function toComputer(row: ComputerRow): Computer {
  return {
    id: toGlobalId("Computer", row.reference),
    reference: row.reference,
    title: row.title,
    project: row.project,
    liveness: row.liveness,
    livenessSince: row.livenessSince,
    lastContactAt: row.lastContactAt ?? null,
    scope: row.scope,
    attributes: Object.entries(row.attributes)
      .map(([name, value]) => ({ name, value }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    createdAt: row.createdAt,
    formattedAt: row.formattedAt ?? null,
    slaposVersion: row.slaposVersion ?? null,
  };
}

@Resolver(() => Computer)
export class ComputerResolver {
  readonly #service: ComputerService;
  readonly #masterUrl: (credential: string) => string;

  constructor(service: ComputerService, masterUrl: (credential: string) => string) {
    this.#service = service;
    this.#masterUrl = masterUrl;
  }

  @Query(() => Computer, { nullable: true, description: "One computer; null if there is none for this caller." })
  async computer(
    @Arg("reference", () => String, { description: "The computer's reference." }) reference: string,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<Computer | null> {
    const row = await loaders.computers.load(reference);
    return row && toComputer(row);
  }

  @Query(() => ComputerConnection, { nullable: true, description: "The computers that the caller sees, by reference." })
  async computers(@Args(() => PageArgs) args: PageArgs, @Ctx() { caller }: ComputerContext): Promise<ComputerPage> {
    const page = toPage(args);
    return toConnection(await this.#service.computers(caller, page), page, (row) => row.reference, toComputer);
  }

  @FieldResolver(() => PartitionConnection, { description: "Its partitions that the caller sees, by key." })
  async partitions(
    @Root() computer: Computer,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<PartitionPage> {
    const page = toPage(args);
    return toConnection(
      await loaders.partitionPages(page).load(computer.reference),
      page,
      (row) => row.key,
      toPartition,
    );
  }

  @FieldResolver(() => InstallationConnection, { description: "The software that it has or is to have, by url." })
  async installations(
    @Root() computer: Computer,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<InstallationPage> {
    const page = toPage(args);
    return toConnection(
      await loaders.installationPages(page).load(computer.reference),
      page,
      (row) => row.key,
      toInstallation,
    );
  }

  @FieldResolver(() => InstanceConnection, {
    description:
      "The living instances that it holds and that the caller sees, shared ones with their hosts, by reference.",
  })
  async instances(
    @Root() computer: Computer,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<InstancePage> {
    const page = toPage(args);
    return toConnection(
      await loaders.instancePages(page).load(computer.reference),
      page,
      (row) => row.reference,
      toInstance,
    );
  }

  @FieldResolver(() => UsageReportConnection, {
    description: "What its node said that was consumed, oldest first: the last 750 reports. Empty for users.",
  })
  async usageReports(
    @Root() computer: Computer,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<UsageReportPage> {
    const page = toPage(args);
    return toConnection(await loaders.usagePages(page).load(computer.reference), page, (row) => row.id, toUsageReport);
  }

  @Mutation(() => CreateComputerPayload, {
    description:
      "Creates a computer and the credential of its node. Owners of the project only. User errors: ALREADY_EXISTS, BAD_USER_INPUT.",
  })
  async createComputer(
    @Arg("input", () => CreateComputerInput, { description: "The new computer." }) input: CreateComputerInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<CreateComputerPayload> {
    return toPayload(async () => {
      const { row, credential } = await this.#service.createComputer(caller, input);
      return { computer: toComputer(row), credential, masterUrl: this.#masterUrl(credential) };
    });
  }

  @Mutation(() => ComputerPayload, {
    description: "Stops new allocations to a computer; what runs goes on. Idempotent. Owners only.",
  })
  async cordonComputer(
    @Arg("input", () => ComputerReferenceInput, { description: "Which computer." }) input: ComputerReferenceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<ComputerPayload> {
    return toPayload(async () => ({
      computer: toComputer(await this.#service.setScope(caller, input.reference, "CORDONED")),
    }));
  }

  @Mutation(() => ComputerPayload, {
    description: "Lets a computer take new instances again. Idempotent. Owners only.",
  })
  async uncordonComputer(
    @Arg("input", () => ComputerReferenceInput, { description: "Which computer." }) input: ComputerReferenceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<ComputerPayload> {
    return toPayload(async () => ({
      computer: toComputer(await this.#service.setScope(caller, input.reference, "OPEN")),
    }));
  }

  @Mutation(() => ComputerPayload, {
    description:
      "Stops new allocations, and says that what runs should move: the computer's `instances` are what is left to move. Nothing is moved by itself. Idempotent. Owners only.",
  })
  async drainComputer(
    @Arg("input", () => ComputerReferenceInput, { description: "Which computer." }) input: ComputerReferenceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<ComputerPayload> {
    return toPayload(async () => ({
      computer: toComputer(await this.#service.setScope(caller, input.reference, "DRAINING")),
    }));
  }

  @Mutation(() => ComputerPayload, {
    description: "Takes a computer out of use: it takes no new instances. Idempotent. Owners only.",
  })
  async closeComputer(
    @Arg("input", () => ComputerReferenceInput, { description: "Which computer." }) input: ComputerReferenceInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<ComputerPayload> {
    return toPayload(async () => ({
      computer: toComputer(await this.#service.setScope(caller, input.reference, "CLOSED")),
    }));
  }

  @Mutation(() => ComputerPayload, {
    description:
      "Says what a computer is like, for the filters of requests. What runs stays; pending requests try again. Owners only. User errors: BAD_USER_INPUT, NOT_FOUND.",
  })
  async setComputerAttributes(
    @Arg("input", () => SetComputerAttributesInput, { description: "Which computer, and its attributes." })
    input: SetComputerAttributesInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<ComputerPayload> {
    return toPayload(async () => ({
      computer: toComputer(await this.#service.setAttributes(caller, input.reference, input.attributes)),
    }));
  }

  @Subscription(() => ComputerStateEvent, {
    description: "Changes of computers' liveness, in the order of the log. Errors: BAD_CURSOR, RESUME_EXPIRED.",
    subscribe: ({ args, context }) => followComputers(args as AfterArgs, context as ComputerContext),
  })
  computerStateChanged(
    @Root() event: StreamItem<ComputerStateChange>,
    @Args(() => AfterArgs) _args: AfterArgs,
  ): ComputerStateEvent {
    return event;
  }
}

@Resolver(() => ComputerStateChange)
export class ComputerStateChangeResolver {
  @FieldResolver(() => Computer, {
    nullable: true,
    description: "The computer as it is when the event is delivered.",
  })
  async computer(
    @Root() { reference }: ComputerStateChange,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<Computer | null> {
    const row = await loaders.computers.load(reference);
    return row && toComputer(row);
  }
}

function followComputers(args: AfterArgs, { caller, loaders }: ComputerContext) {
  return loaders.follow(args.after, ({ kind, subject, project, payload }): ComputerStateChange | null => {
    if (kind !== "ComputerStateChanged" || !mayHearOfComputer(caller, { reference: subject, project })) return null;
    return { reference: subject, from: payload.from as Liveness, to: payload.to as Liveness };
  });
}
