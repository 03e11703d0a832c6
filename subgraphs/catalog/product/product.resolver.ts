import { Arg, Args, Ctx, FieldResolver, Mutation, Query, Resolver, Root } from "type-graphql";
import { naturalKeyOf, toGlobalId } from "../../../common/global-id.js";
import { projectOf } from "../../../common/identity.js";
import { toConnection, toPage } from "../../../common/pagination.js";
import { PageArgs } from "../../../common/pagination.type.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { CatalogContext } from "../context.js";
import { toRelease } from "../release/release.resolver.js";
import { ReleaseConnection, type ReleasePage } from "../release/release.type.js";
import { type ProductRow, type ProductService, productKey } from "./product.service.js";
import {
  CreateSoftwareProductInput,
  CreateSoftwareProductPayload,
  ProductConnection,
  type ProductPage,
  SoftwareProduct,
} from "./product.type.js";

export function toProduct(row: ProductRow): SoftwareProduct {
  const { key, name, title, description, project, createdAt } = row;
  return { id: toGlobalId("SoftwareProduct", key), name, title, description, project, createdAt };
}

@Resolver(() => SoftwareProduct)
export class ProductResolver {
  readonly #service: ProductService;

  constructor(service: ProductService) {
    this.#service = service;
  }

  @Query(() => ProductConnection, {
    nullable: true,
    description: "The products that the caller sees, by project and name.",
  })
  async softwareProducts(
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { caller }: CatalogContext,
  ): Promise<ProductPage> {
    const page = toPage(args);
    return toConnection(await this.#service.products(caller, page), page, (row) => row.key, toProduct);
  }

  @Query(() => SoftwareProduct, { nullable: true, description: "One product; null if there is none for this caller." })
  async softwareProduct(
    @Arg("name", () => String, { description: "The product's name." }) name: string,
    @Arg("project", () => String, {
      nullable: true,
      description: "Its project. Default: the caller's; `main` for the administrator.",
    })
    project: string | null | undefined,
    @Ctx() { caller, loaders }: CatalogContext,
  ): Promise<SoftwareProduct | null> {
    const row = await loaders.products.load(productKey(project ?? projectOf(caller), name));
    return row && toProduct(row);
  }

  @FieldResolver(() => ReleaseConnection, { description: "Its releases, by url." })
  async softwareReleases(
    @Root() product: SoftwareProduct,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: CatalogContext,
  ): Promise<ReleasePage> {
    const page = toPage(args);
    const rows = await loaders.releasePages(page).load(naturalKeyOf("SoftwareProduct", product.id));
    return toConnection(rows, page, (row) => row.url, toRelease);
  }

  @Mutation(() => CreateSoftwareProductPayload, {
    description: "Creates a product. Owners only. User errors: ALREADY_EXISTS, BAD_USER_INPUT.",
  })
  async createSoftwareProduct(
    @Arg("input", () => CreateSoftwareProductInput, { description: "The new product." })
    input: CreateSoftwareProductInput,
    @Ctx() { caller }: CatalogContext,
  ): Promise<CreateSoftwareProductPayload> {
    return toPayload(async () => ({ softwareProduct: toProduct(await this.#service.createProduct(caller, input)) }));
  }
}
