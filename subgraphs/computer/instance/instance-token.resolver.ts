import { Arg, Ctx, Mutation, Resolver } from "type-graphql";
import { toPayload } from "../../../common/user-error.type.js";
import type { ComputerContext } from "../context.js";
import { toInstance } from "./instance.resolver.js";
import type { InstanceTokenService } from "./instance-token.service.js";
import { CreateInstanceTokenInput, CreateInstanceTokenPayload } from "./instance-token.type.js";

@Resolver()
export class InstanceTokenResolver {
  readonly #service: InstanceTokenService;
  readonly #masterUrl: (credential: string) => string;

  constructor(service: InstanceTokenService, masterUrl: (credential: string) => string) {
    this.#service = service;
    this.#masterUrl = masterUrl;
  }

  @Mutation(() => CreateInstanceTokenPayload, {
    description:
      "Creates a token by which an instance calls: it sees itself and the children that it requests. It ends with the instance. Owners, and users for their own. User errors: NOT_FOUND, FORBIDDEN, STATE_CONFLICT, BAD_USER_INPUT.",
  })
  async createInstanceToken(
    @Arg("input", () => CreateInstanceTokenInput, { description: "Which instance." }) input: CreateInstanceTokenInput,
    @Ctx() { caller }: ComputerContext,
  ): Promise<CreateInstanceTokenPayload> {
    return toPayload(async () => {
      const { row, issued } = await this.#service.createInstanceToken(caller, input.reference, input.expiresInDays);
      return { instance: toInstance(row), credential: issued.token, masterUrl: this.#masterUrl(issued.token) };
    });
  }
}
