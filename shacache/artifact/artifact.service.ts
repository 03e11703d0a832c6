import type { Readable } from "node:stream";
import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../common/errors.js";
import type { EventLog } from "../../common/event-log.js";
import { type Caller, mainProject } from "../../common/identity.js";
import type { BlobStore, OpenBlob } from "../blob-store.js";
import { ArtifactEntity } from "./artifact.entity.js";

export type ArtifactRow = InferEntity<typeof ArtifactEntity>;

export const sha512Pattern = /^[0-9a-f]{128}$/;
export const anonymous = "anonymous";

export class ArtifactService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #blobs: BlobStore;
  readonly #maxSizeBytes: number;

  constructor(orm: MikroORM, eventLog: EventLog, blobs: BlobStore, maxSizeBytes: number) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#blobs = blobs;
    this.#maxSizeBytes = maxSizeBytes;
  }

  /**
   * Stores a blob of unknown digest. The bytes are durable and compared before the index names them; a crash between the
   * two leaves a blob that the same upload, sent again, finds and indexes.
   */
  async upload(caller: Caller | null, stream: Readable, expectedSizeBytes: number): Promise<string> {
    if (expectedSizeBytes > this.#maxSizeBytes) {
      throw new AppError("PAYLOAD_TOO_LARGE", `A blob has up to ${this.#maxSizeBytes} bytes.`);
    }
    const { sha512, sizeBytes } = await this.#blobs.receive(stream, {
      maxSizeBytes: this.#maxSizeBytes,
      expectedSizeBytes,
    });
    const uploadedBy = caller?.subject ?? anonymous;
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const inserted = await em.execute<{ sha512: string }[]>(
        `insert into shacache.artifact (sha512, size_bytes, created_at, uploaded_by) values (?, ?, now(), ?)
         on conflict (sha512) do nothing returning sha512`,
        [sha512, sizeBytes, uploadedBy],
      );
      if (inserted.length === 0) return;
      const project = caller && caller.kind !== "administrator" ? caller.project : mainProject;
      await append({ kind: "ArtifactStored", subject: sha512, project, actor: uploadedBy, payload: { sizeBytes } });
    });
    return sha512;
  }

  /** Null when there is no such blob. */
  stat(sha512: string): Promise<{ sizeBytes: number } | null> {
    return this.#blobs.stat(sha512);
  }

  /** Null when there is no such blob; a store that does not answer throws, because broken is not absent. */
  open(sha512: string, range?: { start: number; end: number }): Promise<OpenBlob | null> {
    return this.#blobs.open(sha512, range);
  }

  async artifactsBySha512(digests: readonly string[]): Promise<(ArtifactRow | null)[]> {
    const rows = await this.#orm.em.fork().find(ArtifactEntity, { sha512: { $in: [...digests] } });
    const bySha512 = new Map(rows.map((row) => [row.sha512, row]));
    return digests.map((digest) => bySha512.get(digest) ?? null);
  }
}
