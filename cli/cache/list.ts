import type { Api } from "../api.js";
import { say, table } from "../output.js";
import type { CacheClient } from "./cache-client.js";
import { CacheError, withRetries } from "./cache-error.js";
import { parseMetadata } from "./entry.js";
import type { NamedBlob } from "./local-file.js";

/** One line for a blob that is there: its sum, its size in bytes, its name. */
export async function listBlob(client: CacheClient, { name, sha512 }: NamedBlob): Promise<void> {
  const digest = await sha512();
  const found = await withRetries(() => client.stat(digest));
  if (found === null) throw new CacheError("absent", "The cache does not have it.");
  say(`${digest}  ${String(found.sizeBytes).padStart(12)}  ${name}`);
}

/** The entries under a key, newest first, with what they say. */
export async function listEntries(client: CacheClient, key: string): Promise<void> {
  const entries = await withRetries(() => client.entries(key));
  if (entries.length === 0) throw new CacheError("absent", "There is no entry under this key.");
  table(
    entries.map(([metadata, signature]) => ({
      sha512: parseMetadata(metadata)?.sha512 ?? null,
      signed: signature.trim() === "" ? "no" : "yes",
      metadata,
    })),
  );
}

/** The blobs of the caller's project, or all for the administrator, as the API lists them. */
export async function listArtifacts(api: Api): Promise<void> {
  table(await api.list("artifacts"));
}
