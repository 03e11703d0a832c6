import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { graphqlEnum } from "../../../common/enum.type.js";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";
import type {
  ReportedInstallationState as Reported,
  RequestedInstallationState as Requested,
} from "./installation.state.js";

export const RequestedInstallationState = graphqlEnum<Requested>(
  "RequestedInstallationState",
  "What is wanted of a release on a computer.",
  { AVAILABLE: "It is to be installed.", DESTROYED: "It is to be removed." },
);

export const ReportedInstallationState = graphqlEnum<Reported>(
  "ReportedInstallationState",
  "What the node last said of a release on its computer.",
  {
    NONE: "Nothing yet.",
    BUILDING: "It is being built.",
    AVAILABLE: "It is built and can be used.",
    ERROR: "Its build failed; the node tries again at each run.",
    DESTROYED: "It was removed.",
  },
);

@ObjectType({ description: "A software release on a computer." })
@Directive('@key(fields: "id")')
export class SoftwareInstallation {
  @Field(() => ID, {
    description: "Global id; its natural key is the computer's reference, a space, and the release's url.",
  })
  id!: string;

  @Field(() => RequestedInstallationState, { description: "What is wanted." })
  requestedState!: Requested;

  @Field(() => ReportedInstallationState, { description: "What the node last said." })
  reportedState!: Reported;

  @Field(() => GraphQLISODateTime, { description: "When the reported state last changed." })
  since!: Date;

  @Field(() => String, {
    nullable: true,
    description: "The end of the failed build's output, up to 262,144 characters; null unless ERROR.",
  })
  errorLog!: string | null;

  computerReference!: string;
  url!: string;
}

export const { ConnectionType: InstallationConnection } = connectionTypes(
  "SoftwareInstallation",
  () => SoftwareInstallation,
);
export type InstallationPage = Connection<SoftwareInstallation>;

@InputType({ description: "A release on a computer." })
export class SupplySoftwareInput {
  @Field({ description: "The computer's reference." })
  computerReference!: string;

  @Field({ description: "The release's url." })
  releaseUrl!: string;
}

@ObjectType({ description: "What supplySoftware or withdrawSoftware did." })
export class SupplySoftwarePayload {
  @Field(() => SoftwareInstallation, { nullable: true, description: "The installation, null if refused." })
  installation!: SoftwareInstallation | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}

@ObjectType({ description: "A change of what is requested or reported of an installation." })
export class InstallationStateChange {
  @Field(() => ReportedInstallationState, { description: "What was reported before." })
  from!: Reported;

  @Field(() => ReportedInstallationState, { description: "What is reported now; as before when the request changed." })
  to!: Reported;

  @Field(() => RequestedInstallationState, { description: "What is requested." })
  requested!: Requested;

  @Field(() => String, { nullable: true, description: "The end of the build's output, for an ERROR." })
  cause!: string | null;

  /** Of the installation that changed, which is read where it is asked for. */
  key!: string;
}

@ObjectType({ description: "An event of `installationStateChanged`, or a bookmark when `change` is null." })
export class InstallationStateEvent {
  @Field({ description: "Pass it as `after` to resume just behind this event." })
  cursor!: string;

  @Field(() => GraphQLISODateTime, { description: "When it happened; for a bookmark, when it was sent." })
  at!: Date;

  @Field(() => InstallationStateChange, { nullable: true, description: "What changed; null in a bookmark." })
  change!: InstallationStateChange | null;
}
