import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { type Caller, projectOf, requireOwner } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { ProductEntity } from "./product.entity.js";

export type ProductRow = InferEntity<typeof ProductEntity>;

export interface NewProduct {
  name: string;
  title?: string | null | undefined;
  description?: string | null | undefined;
  project?: string | null | undefined;
}

export class ProductService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Owners make products in their project. ALREADY_EXISTS when the name is taken there. */
  async createProduct(caller: Caller, input: NewProduct): Promise<ProductRow> {
    const project = projectOf(caller, input.project);
    requireOwner(caller, project, "Creating a product");
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(input.name)) {
      throw badInput(
        "A product's name is 1 to 100 of letters, digits and . _ -, beginning with a letter or digit.",
        "name",
      );
    }
    if ((input.title?.length ?? 0) > 200) throw badInput("A title has up to 200 characters.", "title");
    if ((input.description?.length ?? 0) > 5_000)
      throw badInput("A description has up to 5,000 characters.", "description");
    const key = productKey(project, input.name);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      if (await em.findOne(ProductEntity, { key })) {
        throw new AppError("ALREADY_EXISTS", `There is a product ${input.name}.`, {
          details: { path: ["input", "name"] },
        });
      }
      const row = em.create(ProductEntity, {
        key,
        project,
        name: input.name,
        title: input.title ?? input.name,
        description: input.description ?? "",
        createdAt: new Date(),
      });
      await append({
        kind: "SoftwareProductCreated",
        subject: key,
        project,
        actor: caller.subject,
        payload: { title: row.title },
      });
      return row;
    });
  }

  async products(caller: Caller, page: Page): Promise<ProductRow[]> {
    const { where, options } = keyset("key", page);
    return this.#orm.em.fork().find(ProductEntity, { $and: [where, visibleInCatalog(caller)] }, options);
  }

  async productsByKey(caller: Caller, keys: readonly string[]): Promise<(ProductRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(ProductEntity, { $and: [{ key: { $in: [...keys] } }, visibleInCatalog(caller)] });
    const byKey = new Map(rows.map((row) => [row.key, row]));
    return keys.map((key) => byKey.get(key) ?? null);
  }
}

export const productKey = (project: string, name: string) => `${project}/${name}`;

/** Everybody who holds a token of a project sees its catalog: it is what can be requested and what nodes must run. */
export function visibleInCatalog(caller: Caller): { project?: string } {
  return caller.kind === "administrator" ? {} : { project: caller.project };
}

function badInput(message: string, field: string): AppError {
  return new AppError("BAD_USER_INPUT", message, { details: { path: ["input", field] } });
}
