import type { MikroORM } from "@mikro-orm/postgresql";
import type { BlobStore, ReceivedBytes, StoredObject } from "../blob-store.js";
import { ArtifactEntity } from "./artifact.entity.js";
import type { ArtifactService } from "./artifact.service.js";

const pageSize = 100;

export interface AdoptionOptions {
  /** A finished object that no index names may be an upload's that is about to be named: younger ones are left alone. */
  olderThanMs: number;
  signal: AbortSignal;
  /** Reads an object to its end; null where it is gone. */
  digest: (object: StoredObject) => Promise<ReceivedBytes | null>;
  onRead: (sizeBytes: number, isAdopted: boolean) => void;
}

/** Gives the index the whole objects of the store that it does not name: what a crash left, or all where the index was lost. */
export class Adoption {
  readonly #orm: MikroORM;
  readonly #blobs: BlobStore;
  readonly #artifacts: ArtifactService;

  constructor(orm: MikroORM, blobs: BlobStore, artifacts: ArtifactService) {
    this.#orm = orm;
    this.#blobs = blobs;
    this.#artifacts = artifacts;
  }

  async run(options: AdoptionOptions): Promise<void> {
    let page: StoredObject[] = [];
    for await (const object of this.#blobs.list()) {
      if (Date.now() - object.modifiedAt.getTime() < options.olderThanMs) continue;
      page.push(object);
      if (page.length < pageSize) continue;
      await this.#judgePage(page, options);
      page = [];
    }
    await this.#judgePage(page, options);
  }

  async #judgePage(page: StoredObject[], options: AdoptionOptions): Promise<void> {
    const locations = page.map(({ location }) => location);
    const named = await this.#orm.em
      .fork()
      .find(ArtifactEntity, { location: { $in: locations } }, { fields: ["location"] });
    const known = new Set(named.map(({ location }) => location));
    for (const object of page) if (!known.has(object.location)) await this.#judge(object, options);
  }

  /** A whole blob is adopted, or removed where there is a copy; one that is not what its name says is put aside. */
  async #judge(object: StoredObject, { signal, digest, onRead }: AdoptionOptions): Promise<void> {
    signal.throwIfAborted();
    const { location, modifiedAt } = object;
    const found = await digest(object);
    if (found === null) return;
    const [, named] = /^([0-9a-f]{128})(?:\.|$)/.exec(location) ?? [];
    if (named !== undefined && named !== found.sha512) await this.#blobs.quarantine(location);
    else onRead(found.sizeBytes, await this.#artifacts.adopt({ ...found, location }, modifiedAt));
  }
}
