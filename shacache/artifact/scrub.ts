import { setTimeout as delay } from "node:timers/promises";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { BlobStore } from "../blob-store.js";
import { digestStored } from "../digest-stored.js";
import { Adoption } from "./adoption.js";
import { type ArtifactService, lost } from "./artifact.service.js";

/** A finished object that no index names may be an upload that is about to be named; after this long it is not. */
const unnamedAgeMs = 3_600_000;
const pageSize = 100;

export interface ScrubResult {
  checkedBlobs: number;
  checkedBytes: number;
  quarantined: number;
  /** Objects that no index named and that are blobs from now on. */
  adopted: number;
}

/**
 * Reads every blob from end to end at a bounded rate, quarantines what is not what it should be or is not there, and judges
 * the objects that no index names: a crash between an upload's last byte and its commit leaves such. It keeps its place, so
 * that a pass goes on after a restart. Idempotent; two at once only waste their work.
 */
export class Scrub {
  readonly #orm: MikroORM;
  readonly #blobs: BlobStore;
  readonly #artifacts: ArtifactService;
  readonly #adoption: Adoption;
  readonly #bytesPerSecond: number;

  constructor(orm: MikroORM, blobs: BlobStore, artifacts: ArtifactService, bytesPerSecond: number) {
    this.#orm = orm;
    this.#blobs = blobs;
    this.#artifacts = artifacts;
    this.#adoption = new Adoption(orm, blobs, artifacts);
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** One pass from where the last one stopped. Throws when the store or the index is away, or the signal aborts. */
  async run(signal: AbortSignal, unnamedOlderThanMs = unnamedAgeMs): Promise<ScrubResult> {
    const result: ScrubResult = { checkedBlobs: 0, checkedBytes: 0, quarantined: 0, adopted: 0 };
    await this.#em.execute("update shacache.scrub set started_at = now() where place = ''");
    await this.#checkNamed(result, signal);
    await this.#adoption.run({
      olderThanMs: unnamedOlderThanMs,
      signal,
      digest: (object) => this.#digest(object, signal),
      onRead: (_, isAdopted) => {
        if (isAdopted) result.adopted++;
      },
    });
    await this.#em.execute(
      "update shacache.scrub set place = '', finished_at = now(), checked_blobs = ?, checked_bytes = ?, quarantined = ?",
      [result.checkedBlobs, result.checkedBytes, result.quarantined],
    );
    return result;
  }

  get #em() {
    return this.#orm.em.fork();
  }

  async #checkNamed(result: ScrubResult, signal: AbortSignal): Promise<void> {
    const [place] = await this.#em.execute<{ place: string }[]>("select place from shacache.scrub");
    for (let after = place?.place ?? ""; ; ) {
      const rows = await this.#em.execute<{ sha512: string; location: string; size_bytes: string }[]>(
        `select sha512, location, size_bytes from shacache.artifact where sha512 > ? order by sha512 limit ${pageSize}`,
        [after],
      );
      for (const { sha512, location, size_bytes } of rows) {
        const found = await this.#digest({ location, sizeBytes: Number(size_bytes) }, signal);
        result.checkedBlobs++;
        result.checkedBytes += found?.sizeBytes ?? 0;
        if (found?.sha512 !== sha512) {
          const cause = found ? "The blob does not have its digest." : lost;
          if (await this.#artifacts.quarantine(sha512, location, cause)) result.quarantined++;
        }
        after = sha512;
        await this.#em.execute("update shacache.scrub set place = ?", [sha512]);
      }
      if (rows.length < pageSize) return;
    }
  }

  #digest(object: { location: string; sizeBytes: number }, signal: AbortSignal) {
    return digestStored(this.#blobs, object, async (sizeBytes) => {
      await delay((sizeBytes / this.#bytesPerSecond) * 1000, undefined, { signal });
    });
  }
}
