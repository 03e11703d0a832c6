import DataLoader from "dataloader";
import type { Caller } from "../../common/identity.js";
import { loadersPerPage } from "../../common/page-per-parent.js";
import type { Page } from "../../common/pagination.js";
import type { SubgraphContext } from "../../common/subgraph.js";
import type { ProductRow, ProductService } from "./product/product.service.js";
import type { ReleaseRow, ReleaseService } from "./release/release.service.js";

export interface CatalogServices {
  products: ProductService;
  releases: ReleaseService;
}

export interface CatalogLoaders {
  products: DataLoader<string, ProductRow | null>;
  releases: DataLoader<string, ReleaseRow | null>;
  releasePages: (page: Page) => DataLoader<string, ReleaseRow[]>;
}

export type CatalogContext = SubgraphContext<CatalogLoaders>;

export function createCatalogLoaders({ products, releases }: CatalogServices) {
  return (caller: Caller): CatalogLoaders => ({
    products: new DataLoader((keys) => products.productsByKey(caller, keys)),
    releases: new DataLoader((urls) => releases.releasesByUrl(caller, urls)),
    releasePages: loadersPerPage((page, keys) => releases.releasesOfProducts(caller, keys, page)),
  });
}
