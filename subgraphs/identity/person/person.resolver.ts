import { Arg, Args, Ctx, FieldResolver, Mutation, Query, Resolver, Root } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { IdentityContext } from "../context.js";
import { toToken } from "../token/token.resolver.js";
import type { TokenService } from "../token/token.service.js";
import type { PersonRow, PersonService } from "./person.service.js";
import {
  CreatePersonInput,
  CreatePersonPayload,
  Person,
  PersonConnection,
  type PersonPage,
  PersonRole,
  RevokeRoleInput,
  RevokeRolePayload,
} from "./person.type.js";

export function toPerson(row: PersonRow): Person {
  return {
    id: toGlobalId("Person", row.subject),
    subject: row.subject,
    displayName: row.displayName,
    createdAt: row.createdAt,
  };
}

@Resolver(() => Person)
export class PersonResolver {
  readonly #service: PersonService;
  readonly #tokens: TokenService;

  constructor(service: PersonService, tokens: TokenService) {
    this.#service = service;
    this.#tokens = tokens;
  }

  @Query(() => Person, { nullable: true, description: "One person; null if there is none for this caller." })
  async person(
    @Arg("subject", () => String, { description: "The person's subject." }) subject: string,
    @Ctx() { loaders }: IdentityContext,
  ): Promise<Person | null> {
    const row = await loaders.persons.load(subject);
    return row && toPerson(row);
  }

  @Query(() => PersonConnection, {
    nullable: true,
    description:
      "Every person for the administrator, those with tokens of the project for its owners, oneself for others.",
  })
  async persons(@Args(() => PageArgs) args: PageArgs, @Ctx() { caller }: IdentityContext): Promise<PersonPage> {
    const page = toPage(args);
    return toConnection(await this.#service.persons(caller, page), page, (row) => row.subject, toPerson);
  }

  @FieldResolver(() => [PersonRole], {
    description: "The roles that the person holds in the projects that the caller sees, by project.",
  })
  async roles(@Root() person: Person, @Ctx() { loaders }: IdentityContext): Promise<PersonRole[]> {
    return (await loaders.personRoles.load(person.subject)) as PersonRole[];
  }

  @Mutation(() => RevokeRolePayload, {
    description:
      "Revokes every token of a person in a project, and the registration tokens that it made there. Owners only. Idempotent. User errors: NOT_FOUND, FORBIDDEN.",
  })
  async revokeRole(
    @Arg("input", () => RevokeRoleInput, { description: "Whose, and where." }) input: RevokeRoleInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<RevokeRolePayload> {
    return toPayload(async () => ({
      tokens: (await this.#tokens.revokeRole(caller, input.person, input.project)).map(toToken),
    }));
  }

  @Mutation(() => CreatePersonPayload, {
    description: "Creates a person, who can then be given tokens. Administrator only.",
  })
  async createPerson(
    @Arg("input", () => CreatePersonInput, { description: "The new person." }) input: CreatePersonInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<CreatePersonPayload> {
    return toPayload(async () => ({
      person: toPerson(await this.#service.createPerson(caller, input.subject, input.displayName)),
    }));
  }
}
