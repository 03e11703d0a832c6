import type { CacheClient } from "./cache-client.js";
import { CacheError, withRetries } from "./cache-error.js";
import { fittingEntries } from "./entry.js";
import type { Sum } from "./sums.js";

/** The newest entry that fits and whose blob the cache has, as slapgrid chooses. It is named by the entry's `file`, else by its sum. */
export async function pullEntry(
  client: CacheClient,
  key: string,
  certificates: readonly string[],
  wanted: Record<string, string>,
  pullTo: (sum: Sum) => Promise<void>,
): Promise<void> {
  const fitting = fittingEntries(await withRetries(() => client.entries(key)), certificates, wanted);
  for (const { sha512, file } of fitting) {
    try {
      await pullTo({ sha512, name: typeof file === "string" && file !== "" ? file : sha512 });
      return;
    } catch (error) {
      if (!(error instanceof CacheError) || error.kind !== "absent") throw error;
    }
  }
  throw new CacheError(
    "absent",
    fitting.length === 0
      ? "No entry under this key fits."
      : `${fitting.length} entries fit, the cache has none of their blobs.`,
  );
}
