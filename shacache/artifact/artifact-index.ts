import { createSecretKey } from "node:crypto";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { IndexedBlob } from "../indexed-blob.js";

/** Digests of a blob take 16 bytes per MiB, so this many rows are some megabytes at most, but for very large blobs. */
const maxRemembered = 20_000;
const maxRememberedBlobBytes = 4 * 1024 ** 3;

interface Row {
  location: string;
  size_bytes: string;
  chunk_key: Buffer | null;
  chunk_tags: Buffer | null;
}

/** A row as a reader needs it; without digests where an older version stored the blob. */
export type KnownBlob = Omit<IndexedBlob, "digests"> & { digests: IndexedBlob["digests"] | null };

/**
 * Where blobs are, remembered in memory. Nothing has to invalidate it: what a digest names never changes, and where the
 * bytes have moved or gone the store says that they are not there, upon which the row is read again.
 */
export class ArtifactIndex {
  readonly #orm: MikroORM;
  readonly #remembered = new Map<string, KnownBlob>();

  constructor(orm: MikroORM) {
    this.#orm = orm;
  }

  async find(sha512: string): Promise<KnownBlob | null> {
    const known = this.#remembered.get(sha512);
    if (known === undefined) return this.findAgain(sha512);
    // The order of the map is that of the last use.
    this.#remembered.delete(sha512);
    this.#remembered.set(sha512, known);
    return known;
  }

  async findAgain(sha512: string): Promise<KnownBlob | null> {
    this.forget(sha512);
    const [row] = await this.#orm.em
      .fork()
      .execute<Row[]>("select location, size_bytes, chunk_key, chunk_tags from shacache.artifact where sha512 = ?", [
        sha512,
      ]);
    if (!row) return null;
    const { location, size_bytes, chunk_key: key, chunk_tags: tags } = row;
    const blob = {
      location,
      sizeBytes: Number(size_bytes),
      digests: key && tags && { key: createSecretKey(key), tags },
    };
    if (blob.digests !== null && blob.sizeBytes <= maxRememberedBlobBytes) this.#remember(sha512, blob);
    return blob;
  }

  forget(sha512: string): void {
    this.#remembered.delete(sha512);
  }

  #remember(sha512: string, blob: KnownBlob): void {
    this.#remembered.set(sha512, blob);
    const oldest = this.#remembered.keys().next().value;
    if (this.#remembered.size > maxRemembered && oldest !== undefined) this.#remembered.delete(oldest);
  }
}
