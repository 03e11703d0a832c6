import { Directive, Field, GraphQLISODateTime, ID, InputType, ObjectType } from "type-graphql";
import { graphqlEnum } from "../../../common/enum.type.js";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import { UserError } from "../../../common/user-error.type.js";
import type { Liveness, Scope } from "./computer.state.js";

export const ComputerLiveness = graphqlEnum<Liveness>(
  "ComputerLiveness",
  "What is known of a computer by its last contact.",
  {
    UNSEEN: "Its node has never called.",
    ONLINE: "Its node calls as expected.",
    SUSPECT: "Its node has not called for longer than expected.",
    LOST: "Its node has not called for long. Nothing is restarted elsewhere because of it.",
  },
);

export const ComputerScope = graphqlEnum<Scope>(
  "ComputerScope",
  "Whether new instances may be allocated to a computer.",
  {
    OPEN: "It takes new instances.",
    CORDONED: "It takes no new instances; what runs goes on.",
    DRAINING: "It takes no new instances, and what runs should move.",
    CLOSED: "It is out of use.",
  },
);

@ObjectType({ description: "Something that a computer's owner says of it." })
export class ComputerAttribute {
  @Field({
    description:
      "network_guid, group, region, cpu_core, cpu_frequency, cpu_type, local_area_network_type, memory_size, memory_type, storage_capacity, storage_interface or storage_redundancy.",
  })
  name!: string;

  @Field({ description: "A category: a filter for `europe` also finds `europe/france`." })
  value!: string;
}

@ObjectType({ description: "A machine that runs a SlapOS node." })
@Directive('@key(fields: "id")')
export class Computer {
  @Field(() => ID, { description: "Global id; its natural key is the reference." })
  id!: string;

  @Field({ description: "`COMP-n`, or the id that its owner gave it." })
  reference!: string;

  @Field({ description: "A title for people." })
  title!: string;

  @Field({ description: "The name of the project that it belongs to." })
  project!: string;

  @Field(() => ComputerLiveness, { description: "By last contact." })
  liveness!: Liveness;

  @Field(() => GraphQLISODateTime, { description: "When the liveness last changed." })
  livenessSince!: Date;

  @Field(() => GraphQLISODateTime, {
    nullable: true,
    description: "Its last contact, to the minute; null if it never called.",
  })
  lastContactAt!: Date | null;

  @Field(() => ComputerScope, { description: "Whether it takes new instances." })
  scope!: Scope;

  @Field(() => [ComputerAttribute], { description: "What its owner says of it, for allocation filters; by name." })
  attributes!: ComputerAttribute[];

  @Field(() => GraphQLISODateTime, { description: "When it was created." })
  createdAt!: Date;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "When its node last formatted it; null if never." })
  formattedAt!: Date | null;

  @Field(() => String, { nullable: true, description: "The version of slapos.core that it formatted with." })
  slaposVersion!: string | null;
}

export const { ConnectionType: ComputerConnection } = connectionTypes("Computer", () => Computer);
export type ComputerPage = Connection<Computer>;

@InputType({ description: "A new computer." })
export class CreateComputerInput {
  @Field(() => String, {
    nullable: true,
    description: "1 to 64 of letters, digits and . _ -. Default: the next free `COMP-n`.",
  })
  reference?: string | null;

  @Field(() => String, {
    nullable: true,
    description: "A title for people, up to 200 characters. Default: the reference.",
  })
  title?: string | null;

  @Field(() => String, {
    nullable: true,
    description: "The project. Default: the caller's; `main` for the administrator.",
  })
  project?: string | null;
}

@ObjectType({ description: "What createComputer made." })
export class CreateComputerPayload {
  @Field(() => Computer, { nullable: true, description: "The new computer, null if refused." })
  computer!: Computer | null;

  @Field(() => String, { nullable: true, description: "The node's token. This is the only time it is shown." })
  credential!: string | null;

  @Field(() => String, {
    nullable: true,
    description:
      "What to write as `master_url` into the node's slapos.cfg: the SLAP door's address with the token in its path.",
  })
  masterUrl!: string | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}

@InputType({ description: "Which computer." })
export class ComputerReferenceInput {
  @Field({ description: "The computer's reference." })
  reference!: string;
}

@InputType({ description: "Something that a computer's owner says of it." })
export class ComputerAttributeInput {
  @Field({ description: "See ComputerAttribute." })
  name!: string;

  @Field({ description: "1 to 200 characters." })
  value!: string;
}

@InputType({ description: "All that a computer's owner says of it." })
export class SetComputerAttributesInput {
  @Field({ description: "The computer's reference." })
  reference!: string;

  @Field(() => [ComputerAttributeInput], { description: "The whole list, each name once; it replaces the one before." })
  attributes!: ComputerAttributeInput[];
}

@ObjectType({ description: "What a change of a computer did." })
export class ComputerPayload {
  @Field(() => Computer, { nullable: true, description: "The computer, null if refused." })
  computer!: Computer | null;

  @Field(() => [UserError], { description: "Why it was refused; empty when it was done." })
  userErrors!: UserError[];
}

@ObjectType({ description: "A change of a computer's liveness." })
export class ComputerStateChange {
  @Field(() => ComputerLiveness, { description: "The liveness before." })
  from!: Liveness;

  @Field(() => ComputerLiveness, { description: "The liveness after." })
  to!: Liveness;

  /** Of the computer that changed, which is read where it is asked for. */
  reference!: string;
}

@ObjectType({ description: "An event of `computerStateChanged`, or a bookmark when `change` is null." })
export class ComputerStateEvent {
  @Field({ description: "Pass it as `after` to resume just behind this event." })
  cursor!: string;

  @Field(() => GraphQLISODateTime, { description: "When it happened; for a bookmark, when it was sent." })
  at!: Date;

  @Field(() => ComputerStateChange, { nullable: true, description: "What changed; null in a bookmark." })
  change!: ComputerStateChange | null;
}
