import { Arg, Args, Ctx, Mutation, Query, Resolver } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { MonitoringContext } from "../context.js";
import type { BangRow, BangService } from "./bang.service.js";
import { Bang, BangConnection, BangInput, type BangPage, BangPayload, type BangScope } from "./bang.type.js";

export function toBang(row: BangRow): Bang {
  return {
    id: toGlobalId("Bang", row.id),
    scope: row.scope as BangScope,
    message: row.message,
    at: row.at,
    actor: row.actor,
    computerReference: row.computerReference,
    partitionKey: row.partitionKey ?? null,
    instanceReference: row.instanceReference ?? null,
  };
}

@Resolver(() => Bang)
export class BangResolver {
  readonly #service: BangService;

  constructor(service: BangService) {
    this.#service = service;
  }

  @Query(() => BangConnection, {
    nullable: true,
    description: "The bangs that the caller sees, in the order of their acceptance.",
  })
  async bangs(@Args(() => PageArgs) args: PageArgs, @Ctx() { caller }: MonitoringContext): Promise<BangPage> {
    const page = toPage(args);
    return toConnection(await this.#service.bangs(caller, page), page, (row) => row.id, toBang);
  }

  @Mutation(() => BangPayload, {
    description: "Has every partition of an instance's tree processed again. User errors: NOT_FOUND, BAD_USER_INPUT.",
  })
  async bangInstance(
    @Arg("input", () => BangInput, { description: "Which instance, and why." }) input: BangInput,
    @Ctx() { caller }: MonitoringContext,
  ): Promise<BangPayload> {
    return toPayload(async () => ({
      bang: toBang(await this.#service.bangInstance(caller, input.reference, input.message)),
    }));
  }

  @Mutation(() => BangPayload, {
    description: "Has all that a computer runs processed again. Owners only. User errors: NOT_FOUND, BAD_USER_INPUT.",
  })
  async bangComputer(
    @Arg("input", () => BangInput, { description: "Which computer, and why." }) input: BangInput,
    @Ctx() { caller }: MonitoringContext,
  ): Promise<BangPayload> {
    return toPayload(async () => ({
      bang: toBang(await this.#service.bangComputer(caller, input.reference, input.message)),
    }));
  }
}
