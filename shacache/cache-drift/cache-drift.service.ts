import { createHash } from "node:crypto";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { Caller } from "../../common/identity.js";
import type { Page } from "../../common/pagination.js";
import { ComputerArtifactEntity } from "../computer-artifact/computer-artifact.entity.js";
import type { ComputerArtifactRow } from "../computer-artifact/computer-artifact.service.js";
import type { TakenArtifacts } from "../computer-artifact/taken-artifacts.js";
import { parsePair } from "../directory-entry/entry-body.js";
import { type Platform, platformOf } from "./platform.js";

export interface DriftVariant {
  releaseUrl: string;
  sha512: string;
  computerCount: number;
}

export interface Drift extends Platform {
  variants: DriftVariant[];
}

/** A key has one entry per build and platform; more than these of one release no computer has taken lately. */
const maxEntries = 1_000;

/** The last of a release's blobs that each computer took or brought, of the computers that the caller sees: what it runs. */
const running = `select distinct on (computer) * from shacache.computer_artifact
  where sha512 = any (?::text[]) and (?::text is null or project = ?) and (?::text is null or computer = ?)
  order by computer, moment desc`;

/** Finds computers that should run the same bytes of a release and do not. */
export class CacheDriftService {
  readonly #orm: MikroORM;
  readonly #taken: TakenArtifacts;

  constructor(orm: MikroORM, taken: TakenArtifacts) {
    this.#orm = orm;
    this.#taken = taken;
  }

  /** One for each platform on which computers run different bytes of the release, the most common bytes first. */
  async driftOf(caller: Caller, releaseUrl: string): Promise<Drift[]> {
    if (caller.kind === "instance") return [];
    await this.#taken.flush();
    const platforms = await this.#platformsOf(releaseUrl);
    const rows = await this.#orm.em
      .fork()
      .execute<{ sha512: string; count: string }[]>(
        `select sha512, count(*) as count from (${running}) as running group by sha512 order by count(*) desc, sha512`,
        [toArray(platforms.keys()), ...boundsOf(caller)],
      );
    const drifts = new Map<string, Drift>();
    for (const { sha512, count } of rows) {
      const platform = platforms.get(sha512);
      if (!platform) continue;
      const name = JSON.stringify(platform);
      const drift = drifts.get(name) ?? { ...platform, variants: [] };
      drift.variants.push({ releaseUrl, sha512, computerCount: Number(count) });
      drifts.set(name, drift);
    }
    return [...drifts.values()].filter(({ variants }) => variants.length > 1);
  }

  /** The computers that run one of the variants, in the order of their references. */
  async computersOf(
    caller: Caller,
    { releaseUrl, sha512 }: Pick<DriftVariant, "releaseUrl" | "sha512">,
    page: Page,
  ): Promise<ComputerArtifactRow[]> {
    if (caller.kind === "instance") return [];
    const digests = toArray((await this.#platformsOf(releaseUrl)).keys());
    const em = this.#orm.em.fork();
    const rows = await em.execute<object[]>(
      `select * from (${running}) as running where sha512 = ?
         and (?::text is null or computer > ?) and (?::text is null or computer < ?)
       order by computer ${page.backward ? "desc" : "asc"} limit ?`,
      [digests, ...boundsOf(caller), sha512, page.after, page.after, page.before, page.before, page.limit + 1],
    );
    return rows.map((row) => em.map(ComputerArtifactEntity, row));
  }

  /** The blobs of the release's binary cache and what they are for, by the newest entry of each. */
  async #platformsOf(releaseUrl: string): Promise<Map<string, Platform>> {
    const key = createHash("md5").update(releaseUrl).digest("hex");
    const rows = await this.#orm.em.fork().execute<{ sha512: string; body: string }[]>(
      `select sha512, body from shacache.directory_entry where md5(key) = md5(?) and key = ? and sha512 is not null
         order by sequence desc limit ${maxEntries}`,
      [key, key],
    );
    const platforms = new Map<string, Platform>();
    for (const { sha512, body } of rows) {
      const platform = platforms.has(sha512) ? null : platformOf(parsePair(body)[0]);
      if (platform) platforms.set(sha512, platform);
    }
    return platforms;
  }
}

/** Digests as the text of an array, which holds nothing that would have to be quoted. */
const toArray = (digests: Iterable<string>) => `{${[...digests].join(",")}}`;

/** The project and the computer that bound what a caller sees, each twice as the statement takes them. */
function boundsOf(caller: Caller): (string | null)[] {
  const project = caller.kind === "administrator" ? null : caller.project;
  const computer = caller.kind === "node" ? caller.subject : null;
  return [project, project, computer, computer];
}
