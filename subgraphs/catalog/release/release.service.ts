import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { type Caller, mayOwn, projectOf, requireOwner } from "../../../common/identity.js";
import { pagePerParent } from "../../../common/page-per-parent.js";
import type { Page } from "../../../common/pagination.js";
import { ProductEntity } from "../product/product.entity.js";
import { productKey, visibleInCatalog } from "../product/product.service.js";
import { ReleaseEntity } from "./release.entity.js";
import { mayReleaseBecome, type ReleaseState } from "./release.state.js";

export type ReleaseRow = InferEntity<typeof ReleaseEntity>;

export interface NewRelease {
  productName: string;
  url: string;
  version?: string | null | undefined;
  project?: string | null | undefined;
}

const maxUrlLength = 2_000;
const maxReleasesPerAnswer = 100;

const eventKinds: Record<ReleaseState, string> = {
  PUBLISHED: "SoftwareReleasePublished",
  DEPRECATED: "SoftwareReleaseDeprecated",
  WITHDRAWN: "SoftwareReleaseWithdrawn",
};

export class ReleaseService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Publishes a release of a product, or publishes it again. Idempotent. A url belongs to one product on this master. */
  async publishRelease(caller: Caller, input: NewRelease): Promise<ReleaseRow> {
    const project = projectOf(caller, input.project);
    requireOwner(caller, project, "Publishing a release");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here.
    if (input.url.length === 0 || input.url.length > maxUrlLength || /[\s\x00-\x1f\x7f]/.test(input.url)) {
      throw badInput(`A release's url is 1 to ${maxUrlLength} characters without white space.`, "url");
    }
    if ((input.version?.length ?? 0) > 100) throw badInput("A version has up to 100 characters.", "version");
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const product = await em.findOne(ProductEntity, { key: productKey(project, input.productName) });
      if (!product)
        throw notFound(
          `There is no product ${input.productName.slice(0, 100)} in the project ${project}.`,
          "productName",
        );
      const [number] = await em.execute<{ sequence: string }[]>("select nextval('catalog.release_number') as sequence");
      const present = await em.findOne(ReleaseEntity, { url: input.url });
      if (present && present.productKey !== product.key) {
        throw new AppError("ALREADY_EXISTS", "This url is published already, as a release of another product.", {
          details: { path: ["input", "url"] },
        });
      }
      const version = input.version ?? present?.version ?? null;
      if (present?.state === "PUBLISHED" && (present.version ?? null) === version) return present;
      const row =
        present ??
        em.create(ReleaseEntity, {
          url: input.url,
          productKey: product.key,
          project,
          version,
          state: "PUBLISHED",
          publishedAt: new Date(),
          sequence: Number(number?.sequence),
        });
      row.version = version;
      row.state = "PUBLISHED";
      await em.flush();
      await append(releaseEvent(row, caller, null));
      return row;
    });
  }

  /** Deprecates or withdraws a release. What runs of it goes on. STATE_CONFLICT where its state has no way there. */
  async retireRelease(
    caller: Caller,
    url: string,
    state: "DEPRECATED" | "WITHDRAWN",
    reason: string | null,
  ): Promise<ReleaseRow> {
    if ((reason?.length ?? 0) > 1_000) throw badInput("A reason has up to 1,000 characters.", "reason");
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const row = await em.findOne(ReleaseEntity, { $and: [{ url }, visibleInCatalog(caller)] });
      if (!row) throw notFound("There is no such release.", "url");
      if (!mayOwn(caller, row.project))
        throw new AppError("FORBIDDEN", "Retiring a release takes the role OWNER in its project.");
      if (row.state === state) return row;
      if (!mayReleaseBecome(row.state, state)) {
        throw new AppError(
          "STATE_CONFLICT",
          `A release that is ${row.state} cannot become ${state}. Publish it again first.`,
        );
      }
      row.state = state;
      await em.flush();
      await append(releaseEvent(row, caller, reason));
      return row;
    });
  }

  async releasesByUrl(caller: Caller, urls: readonly string[]): Promise<(ReleaseRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(ReleaseEntity, { $and: [{ url: { $in: [...urls] } }, visibleInCatalog(caller)] });
    const byUrl = new Map(rows.map((row) => [row.url, row]));
    return urls.map((url) => byUrl.get(url) ?? null);
  }

  /** One page of releases for each of the products, in one go. */
  async releasesOfProducts(caller: Caller, keys: readonly string[], page: Page): Promise<ReleaseRow[][]> {
    return pagePerParent(this.#orm.em.fork(), {
      entity: ReleaseEntity,
      parents: keys,
      parentSql: '"row"."product_key"',
      parentOf: (row) => row.productKey,
      key: "url",
      where: { $and: [{ productKey: { $in: [...keys] } }, visibleInCatalog(caller)] },
      page,
    });
  }

  /** For SLAP: the urls of a product's releases, newest first and without the withdrawn; empty when there is no such product. */
  async releaseUrlsOfProduct(caller: Caller, productName: string): Promise<string[]> {
    return this.#urls(caller, productKey(projectOf(caller), productName));
  }

  /** For SLAP: the urls of the product that this release belongs to. */
  async releaseUrlsLike(caller: Caller, url: string): Promise<string[]> {
    const [row] = await this.releasesByUrl(caller, [url]);
    return row ? this.#urls(caller, row.productKey) : [];
  }

  async #urls(caller: Caller, key: string): Promise<string[]> {
    const where = { $and: [{ productKey: key, state: { $ne: "WITHDRAWN" as const } }, visibleInCatalog(caller)] };
    const rows = await this.#orm.em
      .fork()
      .find(ReleaseEntity, where, { orderBy: { sequence: "desc" }, limit: maxReleasesPerAnswer });
    return rows.map((row) => row.url);
  }
}

function releaseEvent(row: ReleaseRow, caller: Caller, cause: string | null) {
  const payload = { product: row.productKey, state: row.state };
  return { kind: eventKinds[row.state], subject: row.url, project: row.project, actor: caller.subject, cause, payload };
}

function badInput(message: string, field: string): AppError {
  return new AppError("BAD_USER_INPUT", message, { details: { path: ["input", field] } });
}

function notFound(message: string, field: string): AppError {
  return new AppError("NOT_FOUND", message, { details: { path: ["input", field] } });
}
