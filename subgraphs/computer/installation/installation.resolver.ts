import { Arg, Args, Ctx, FieldResolver, Mutation, Resolver, Root, Subscription } from "type-graphql";
import { AppError } from "../../../common/errors.js";
import type { StreamItem } from "../../../common/event-stream.js";
import { toGlobalId } from "../../../common/global-id.js";
import { AfterArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import { toComputer } from "../computer/computer.resolver.js";
import { Computer } from "../computer/computer.type.js";
import type { ComputerContext } from "../context.js";
import { SoftwareRelease, toSoftwareRelease } from "../instance/software-release.stub.js";
import { mayHearOfComputer } from "../visibility.js";
import type { InstallationRow, InstallationService } from "./installation.service.js";
import {
  InstallationStateChange,
  InstallationStateEvent,
  SoftwareInstallation,
  SupplySoftwareInput,
  SupplySoftwarePayload,
} from "./installation.type.js";

export function toInstallation(row: InstallationRow): SoftwareInstallation {
  return {
    id: toGlobalId("SoftwareInstallation", row.key),
    requestedState: row.requestedState,
    reportedState: row.reportedState,
    since: row.reportedSince,
    errorLog: row.errorLog ?? null,
    computerReference: row.computerReference,
    url: row.url,
  };
}

@Resolver(() => SoftwareInstallation)
export class InstallationResolver {
  readonly #service: InstallationService;

  constructor(service: InstallationService) {
    this.#service = service;
  }

  @FieldResolver(() => SoftwareRelease, { description: "The release." })
  softwareRelease(@Root() installation: SoftwareInstallation): SoftwareRelease {
    return toSoftwareRelease(installation.url);
  }

  @FieldResolver(() => Computer, { nullable: true, description: "The computer." })
  async computer(
    @Root() installation: SoftwareInstallation,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<Computer | null> {
    const row = await loaders.computers.load(installation.computerReference);
    return row && toComputer(row);
  }

  @Mutation(() => SupplySoftwarePayload, {
    description:
      "Asks a computer to install a release. Idempotent. Owners only. User errors: NOT_FOUND, BAD_USER_INPUT.",
  })
  async supplySoftware(
    @Arg("input", () => SupplySoftwareInput, { description: "What and where." }) input: SupplySoftwareInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<SupplySoftwarePayload> {
    return toPayload(async () => ({
      installation: toInstallation(
        await this.#service.supplySoftware(caller, input.computerReference, input.releaseUrl),
      ),
    }));
  }

  @Mutation(() => SupplySoftwarePayload, {
    description: "Asks a computer to remove a release. Idempotent. Owners only. User errors: NOT_FOUND.",
  })
  async withdrawSoftware(
    @Arg("input", () => SupplySoftwareInput, { description: "What and where." }) input: SupplySoftwareInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<SupplySoftwarePayload> {
    return toPayload(async () => {
      const row = await this.#service.withdrawSoftware(caller, input.computerReference, input.releaseUrl);
      if (row) return { installation: toInstallation(row) };
      throw new AppError(
        "NOT_FOUND",
        `${input.computerReference} was not asked to install ${input.releaseUrl.slice(0, 200)}.`,
        { details: { path: ["input", "releaseUrl"] } },
      );
    });
  }

  @Subscription(() => InstallationStateEvent, {
    description:
      "Changes of what is requested or reported of installations, in the order of the log. Errors: BAD_CURSOR, RESUME_EXPIRED.",
    subscribe: ({ args, context }) => followInstallations(args as AfterArgs, context as ComputerContext),
  })
  installationStateChanged(
    @Root() event: StreamItem<InstallationStateChange>,
    @Args(() => AfterArgs) _args: AfterArgs,
  ): InstallationStateEvent {
    return event;
  }
}

@Resolver(() => InstallationStateChange)
export class InstallationStateChangeResolver {
  @FieldResolver(() => SoftwareInstallation, {
    nullable: true,
    description: "The installation as it is when the event is delivered.",
  })
  async installation(
    @Root() { key }: InstallationStateChange,
    @Ctx() { loaders }: ComputerContext,
  ): Promise<SoftwareInstallation | null> {
    const row = await loaders.installations.load(key);
    return row && toInstallation(row);
  }
}

function followInstallations(args: AfterArgs, { caller, loaders }: ComputerContext) {
  return loaders.follow(args.after, ({ kind, subject, project, payload, cause }): InstallationStateChange | null => {
    if (kind !== "InstallationStateChanged") return null;
    const { from, to, requested, computer } = payload as Omit<InstallationStateChange, "key" | "cause"> & {
      computer: string;
    };
    if (!mayHearOfComputer(caller, { reference: computer, project })) return null;
    return { key: subject, from, to, requested, cause };
  });
}
