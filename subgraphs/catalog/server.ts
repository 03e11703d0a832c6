import { openDatabase, pingDatabase } from "../../common/database.js";
import { naturalKeyOf } from "../../common/global-id.js";
import { buildSubgraph, type EntityReference } from "../../common/subgraph.js";
import type { SubgraphResources, SubgraphService } from "../../common/subgraph-service.js";
import { type CatalogContext, type CatalogServices, createCatalogLoaders } from "./context.js";
import { catalogMigrations } from "./migrations.js";
import { ProductEntity } from "./product/product.entity.js";
import { ProductResolver, toProduct } from "./product/product.resolver.js";
import { ProductService } from "./product/product.service.js";
import { SoftwareProduct } from "./product/product.type.js";
import { ReleaseEntity } from "./release/release.entity.js";
import { ReleaseResolver, toRelease, toUnpublishedRelease } from "./release/release.resolver.js";
import { ReleaseService } from "./release/release.service.js";
import { SoftwareRelease } from "./release/release.type.js";

export interface CatalogSubgraphService extends SubgraphService {
  services: CatalogServices;
}

/** Opens the catalog subgraph on the shared database. */
export async function openCatalog({ databaseUrl, eventLog, log }: SubgraphResources): Promise<CatalogSubgraphService> {
  const orm = await openDatabase({
    url: databaseUrl,
    schema: "catalog",
    entities: [ProductEntity, ReleaseEntity],
    migrations: catalogMigrations,
    poolSize: 4,
    log,
  });
  const services = { products: new ProductService(orm, eventLog), releases: new ReleaseService(orm, eventLog) };
  return {
    subgraph: await buildCatalogSchema(services),
    services,
    startConsumers: () => undefined,
    checkReady: () => pingDatabase(orm),
    close: () => orm.close(true),
  };
}

export function buildCatalogSchema(services: CatalogServices) {
  return buildSubgraph({
    name: "catalog",
    resolvers: [new ProductResolver(services.products), new ReleaseResolver(services.releases)],
    entityTypes: [SoftwareProduct, SoftwareRelease],
    references: {
      SoftwareProduct: async ({ id }: EntityReference, { loaders }: CatalogContext) => {
        const row = await loaders.products.load(naturalKeyOf("SoftwareProduct", id));
        return row && toProduct(row);
      },
      SoftwareRelease: async ({ id }: EntityReference, { loaders }: CatalogContext) => {
        const url = naturalKeyOf("SoftwareRelease", id);
        const row = await loaders.releases.load(url);
        return row ? toRelease(row) : toUnpublishedRelease(url);
      },
    },
    createLoaders: createCatalogLoaders(services),
  });
}
