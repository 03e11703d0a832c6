import { Arg, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { IdentityContext } from "../context.js";
import type { PersonRow, PersonService } from "./person.service.js";
import { CreatePersonInput, CreatePersonPayload, Person } from "./person.type.js";

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

  constructor(service: PersonService) {
    this.#service = service;
  }

  @Query(() => Person, { nullable: true, description: "One person; null if there is none for this caller." })
  async person(
    @Arg("subject", () => String, { description: "The person's subject." }) subject: string,
    @Ctx() { loaders }: IdentityContext,
  ): Promise<Person | null> {
    const row = await loaders.persons.load(subject);
    return row && toPerson(row);
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
