import type { MikroORM } from "@mikro-orm/postgresql";
import type { Caller } from "../../common/identity.js";

interface Noted {
  computer: string;
  sha512: string;
  project: string;
  firstAt: Date;
  lastAt: Date;
  downloads: number;
  uploads: number;
}

/** More than a fleet takes between two writes; what is beyond is not noted. */
const maxNoted = 50_000;
const batchSize = 1_000;
const keptDays = 400;

/** Which computer took or brought which blob, noted in memory and written for many reads together. A crash forgets the last seconds. */
export class TakenArtifacts {
  readonly #orm: MikroORM;
  #noted = new Map<string, Noted>();

  constructor(orm: MikroORM) {
    this.#orm = orm;
  }

  /** Called once the last byte of a blob has gone to a reader, or came from one; only computers are noted. */
  note(caller: Caller | null, sha512: string, direction: "downloads" | "uploads"): void {
    if (caller?.kind !== "node") return;
    const { subject: computer, project } = caller;
    const now = new Date();
    const one = { computer, sha512, project, firstAt: now, lastAt: now, downloads: 0, uploads: 0 };
    one[direction] = 1;
    this.#add(one);
  }

  #add(one: Noted): void {
    const key = `${one.computer} ${one.sha512}`;
    const noted = this.#noted.get(key);
    if (noted) {
      noted.downloads += one.downloads;
      noted.uploads += one.uploads;
      if (one.firstAt < noted.firstAt) noted.firstAt = one.firstAt;
      if (one.lastAt > noted.lastAt) noted.lastAt = one.lastAt;
    } else if (this.#noted.size < maxNoted) this.#noted.set(key, one);
  }

  /** Writes what was noted since the last time; keeps it where the database is away. */
  async flush(): Promise<void> {
    // In one order everywhere, so that two processes do not wait for one another.
    const noted = [...this.#noted].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
    this.#noted = new Map();
    for (let from = 0; from < noted.length; from += batchSize) {
      try {
        await this.#write(noted.slice(from, from + batchSize));
      } catch (error) {
        for (const one of noted.slice(from)) this.#add(one);
        throw error;
      }
    }
  }

  async #write(batch: Noted[]): Promise<void> {
    const rows = batch.map((one) => ({ ...one, moment: `${one.lastAt.toISOString()} ${one.computer} ${one.sha512}` }));
    await this.#orm.em.fork().execute(
      `insert into shacache.computer_artifact as row (computer, sha512, project, first_at, last_at, downloads, uploads, moment)
       select computer, sha512, project, "firstAt", "lastAt", downloads, uploads, moment
       from jsonb_to_recordset(?::jsonb) as noted (computer text, sha512 text, project text, "firstAt" timestamptz,
         "lastAt" timestamptz, downloads int, uploads int, moment text)
       on conflict (computer, sha512) do update set project = excluded.project,
         last_at = greatest(row.last_at, excluded.last_at), moment = greatest(row.moment, excluded.moment),
         downloads = row.downloads + excluded.downloads, uploads = row.uploads + excluded.uploads`,
      [JSON.stringify(rows)],
    );
  }

  /** Forgets what computers took so long ago that it says nothing of what they run. */
  async dropOld(): Promise<void> {
    await this.#orm.em
      .fork()
      .execute(`delete from shacache.computer_artifact where last_at < now() - interval '${keptDays} days'`);
  }
}
