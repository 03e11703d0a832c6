import { Arg, Ctx, FieldResolver, Mutation, Query, Resolver, Root } from "type-graphql";
import { toGlobalId } from "../../../common/global-id.js";
import type { Caller } from "../../../common/identity.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { CatalogContext } from "../context.js";
import { toProduct } from "../product/product.resolver.js";
import { SoftwareProduct } from "../product/product.type.js";
import type { ReleaseRow, ReleaseService } from "./release.service.js";
import {
  PublishSoftwareReleaseInput,
  RetireSoftwareReleaseInput,
  SoftwareRelease,
  SoftwareReleasePayload,
  type SoftwareReleaseState,
} from "./release.type.js";

export function toRelease(row: ReleaseRow): SoftwareRelease {
  return {
    ...toUnpublishedRelease(row.url),
    version: row.version ?? null,
    state: row.state as SoftwareReleaseState,
    publishedAt: row.publishedAt,
    productKey: row.productKey,
  };
}

/** A release that others refer to, though nobody published it for this caller. */
export function toUnpublishedRelease(url: string): SoftwareRelease {
  return {
    id: toGlobalId("SoftwareRelease", url),
    url,
    version: null,
    state: null,
    publishedAt: null,
    productKey: null,
  };
}

@Resolver(() => SoftwareRelease)
export class ReleaseResolver {
  readonly #service: ReleaseService;

  constructor(service: ReleaseService) {
    this.#service = service;
  }

  @Query(() => SoftwareRelease, {
    nullable: true,
    description: "One published release; null if there is none for this caller.",
  })
  async softwareRelease(
    @Arg("url", () => String, { description: "The release's url." }) url: string,
    @Ctx() { loaders }: CatalogContext,
  ): Promise<SoftwareRelease | null> {
    const row = await loaders.releases.load(url);
    return row && toRelease(row);
  }

  @FieldResolver(() => SoftwareProduct, {
    nullable: true,
    description: "The product that it is a release of; null if nobody published it.",
  })
  async product(@Root() release: SoftwareRelease, @Ctx() { loaders }: CatalogContext): Promise<SoftwareProduct | null> {
    if (release.productKey === null) return null;
    const row = await loaders.products.load(release.productKey);
    return row && toProduct(row);
  }

  @Mutation(() => SoftwareReleasePayload, {
    description:
      "Publishes a release of a product, or publishes it again. Idempotent. Owners only. User errors: NOT_FOUND, ALREADY_EXISTS, BAD_USER_INPUT.",
  })
  async publishSoftwareRelease(
    @Arg("input", () => PublishSoftwareReleaseInput, { description: "The release." })
    input: PublishSoftwareReleaseInput,
    @Ctx() { caller }: CatalogContext,
  ): Promise<SoftwareReleasePayload> {
    return toPayload(async () => ({ softwareRelease: toRelease(await this.#service.publishRelease(caller, input)) }));
  }

  @Mutation(() => SoftwareReleasePayload, {
    description: "Says that a newer release is better. Owners only. User errors: NOT_FOUND, STATE_CONFLICT.",
  })
  async deprecateSoftwareRelease(
    @Arg("input", () => RetireSoftwareReleaseInput, { description: "Which release, and why." })
    input: RetireSoftwareReleaseInput,
    @Ctx() { caller }: CatalogContext,
  ): Promise<SoftwareReleasePayload> {
    return this.#retire(caller, input, "DEPRECATED");
  }

  @Mutation(() => SoftwareReleasePayload, {
    description: "Takes a release back. What runs of it goes on. Owners only. User errors: NOT_FOUND.",
  })
  async withdrawSoftwareRelease(
    @Arg("input", () => RetireSoftwareReleaseInput, { description: "Which release, and why." })
    input: RetireSoftwareReleaseInput,
    @Ctx() { caller }: CatalogContext,
  ): Promise<SoftwareReleasePayload> {
    return this.#retire(caller, input, "WITHDRAWN");
  }

  #retire(
    caller: Caller,
    input: RetireSoftwareReleaseInput,
    state: "DEPRECATED" | "WITHDRAWN",
  ): Promise<SoftwareReleasePayload> {
    return toPayload(async () => ({
      softwareRelease: toRelease(await this.#service.retireRelease(caller, input.url, state, input.reason ?? null)),
    }));
  }
}
