import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { Caller } from "../../common/identity.js";
import { pagePerParent } from "../../common/page-per-parent.js";
import type { Page } from "../../common/pagination.js";
import { ComputerArtifactEntity } from "./computer-artifact.entity.js";
import type { TakenArtifacts } from "./taken-artifacts.js";

export type ComputerArtifactRow = InferEntity<typeof ComputerArtifactEntity>;

export class ComputerArtifactService {
  readonly #orm: MikroORM;
  readonly #taken: TakenArtifacts;

  constructor(orm: MikroORM, taken: TakenArtifacts) {
    this.#orm = orm;
    this.#taken = taken;
  }

  /** What each computer took or brought; nothing of those that the caller does not see. */
  async ofComputers(caller: Caller, computers: readonly string[], page: Page): Promise<ComputerArtifactRow[][]> {
    return this.#pages(caller, computers, "computer", page);
  }

  /** Which computers took or brought each blob, of those that the caller sees. */
  async ofArtifacts(caller: Caller, digests: readonly string[], page: Page): Promise<ComputerArtifactRow[][]> {
    return this.#pages(caller, digests, "sha512", page);
  }

  async #pages(caller: Caller, parents: readonly string[], column: "computer" | "sha512", page: Page) {
    // What this process has noted is not kept from who asks it.
    await this.#taken.flush();
    return pagePerParent(this.#orm.em.fork(), {
      entity: ComputerArtifactEntity,
      parents,
      parentSql: `"row"."${column}"`,
      parentOf: (row) => row[column],
      key: "moment",
      where: { $and: [{ [column]: { $in: [...parents] } }, seenBy(caller)] },
      page,
    });
  }
}

/** As for the computers themselves: members see those of their project, a node itself. */
export function seenBy(caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (caller.kind === "person") return { project: caller.project };
  return { project: caller.project, computer: { $in: caller.kind === "node" ? [caller.subject] : [] } };
}
