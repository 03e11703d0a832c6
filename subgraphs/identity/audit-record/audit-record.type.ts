import {
  ArgsType,
  Directive,
  Field,
  GraphQLISODateTime,
  ID,
  InputType,
  ObjectType,
  registerEnumType,
} from "type-graphql";
import { type Connection, connectionTypes, PageArgs } from "../../../common/pagination.type.js";

export enum AuditDoor {
  GRAPHQL = "GRAPHQL",
  SLAP = "SLAP",
  SHACACHE = "SHACACHE",
}

export enum AuditResult {
  DONE = "DONE",
  REFUSED = "REFUSED",
  FAILED = "FAILED",
}

export enum CallerKind {
  ADMINISTRATOR = "administrator",
  PERSON = "person",
  NODE = "node",
  INSTANCE = "instance",
  ANONYMOUS = "anonymous",
}

registerEnumType(AuditDoor, {
  name: "AuditDoor",
  description: "Where a command came in.",
  valuesConfig: {
    GRAPHQL: { description: "A mutation at the gateway." },
    SLAP: { description: "A call of the SLAP protocol." },
    SHACACHE: { description: "An upload to the Shacache." },
  },
});

registerEnumType(AuditResult, {
  name: "AuditResult",
  description: "How a command ended.",
  valuesConfig: {
    DONE: { description: "It changed something; the record is committed with the change." },
    REFUSED: { description: "It was refused and changed nothing; `code` says why." },
    FAILED: { description: "A fault of ours; the log has it under the request's id." },
  },
});

registerEnumType(CallerKind, {
  name: "CallerKind",
  description: "What a caller is.",
  valuesConfig: {
    ADMINISTRATOR: { description: "Whoever holds the bootstrap administrator's token." },
    PERSON: { description: "Somebody with a role in a project." },
    NODE: { description: "A computer." },
    INSTANCE: { description: "A software instance." },
    ANONYMOUS: { description: "Nobody known, where a door lets anybody write." },
  },
});

@ObjectType({ description: "Who did what, from which door, with which result." })
@Directive('@key(fields: "id")')
export class AuditRecord {
  @Field(() => ID, { description: "Global id. Records sort by it in the order in which they were made." })
  id!: string;

  @Field(() => GraphQLISODateTime, { description: "When." })
  at!: Date;

  @Field({ description: "The caller's subject: a person's, or a computer's or an instance's reference." })
  actor!: string;

  @Field(() => CallerKind, { description: "What the caller is." })
  actorKind!: CallerKind;

  @Field(() => String, {
    nullable: true,
    description:
      "The `jti` of the token, or the id of the certificate, that it came with; null for the administrator's.",
  })
  tokenId!: string | null;

  @Field(() => String, {
    nullable: true,
    description: "The project of what was changed, or the caller's where it was refused; null where there is none.",
  })
  project!: string | null;

  @Field(() => AuditDoor, { description: "Where it came in." })
  door!: AuditDoor;

  @Field({ description: "The mutation, the SLAP endpoint or method, or the route: `createToken`, `supplySupply`." })
  action!: string;

  @Field(() => String, {
    nullable: true,
    description: "The natural key of what was changed, or what a refused command named, without secrets.",
  })
  target!: string | null;

  @Field(() => AuditResult, { description: "How it ended." })
  result!: AuditResult;

  @Field(() => String, { nullable: true, description: "The code of the refusal; null when it was done." })
  code!: string | null;

  @Field({ description: "The id under which the logs know the request." })
  requestId!: string;
}

export const { ConnectionType: AuditRecordConnection } = connectionTypes("AuditRecord", () => AuditRecord);
export type AuditRecordPage = Connection<AuditRecord>;

@InputType({ description: "Which records: those that match all that is given." })
export class AuditFilterInput {
  @Field(() => String, { nullable: true, description: "Of this project." })
  project?: string | null;

  @Field(() => String, { nullable: true, description: "Of this caller's subject." })
  actor?: string | null;

  @Field(() => AuditDoor, { nullable: true, description: "From this door." })
  door?: AuditDoor | null;

  @Field(() => String, { nullable: true, description: "Of this mutation, endpoint or route." })
  action?: string | null;

  @Field(() => String, { nullable: true, description: "About this natural key." })
  target?: string | null;

  @Field(() => AuditResult, { nullable: true, description: "With this result." })
  result?: AuditResult | null;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "Not before this time." })
  since?: Date | null;

  @Field(() => GraphQLISODateTime, { nullable: true, description: "Before this time." })
  until?: Date | null;
}

@ArgsType()
export class AuditRecordsArgs extends PageArgs {
  @Field(() => AuditFilterInput, { nullable: true, description: "Which records. Default: all that the caller sees." })
  filter?: AuditFilterInput | null;
}
