import { setTimeout as delay } from "node:timers/promises";
import { ConfigError } from "../../common/config.js";
import type { Api } from "../api.js";
import { say, tell } from "../output.js";

interface Reindex {
  finishedAt: string | null;
  restoredEntries: number;
  restoredArtifacts: number;
  readBytes: number;
  failure: string | null;
}

const pollMs = 1_000;
const tellEveryMs = 30_000;

/** Has the index made anew, and waits for the end of it. Interrupted, it goes on all the same. */
export async function reindex(api: Api): Promise<void> {
  const payload = await api.mutate<{ reindex: Reindex | null }>("reindexArtifacts", {});
  for (let state = payload.reindex, toldAt = Date.now(); ; ) {
    const done = `${state?.restoredArtifacts} blobs and ${state?.restoredEntries} entries restored, ${state?.readBytes} bytes read`;
    if (state?.failure) throw new ConfigError(`${state.failure} (${done})`);
    if (state?.finishedAt) return say(done);
    if (Date.now() - toldAt > tellEveryMs) {
      tell(done);
      toldAt = Date.now();
    }
    await delay(pollMs);
    state = (await api.query<{ reindex: Reindex | null }>("reindex")).reindex;
  }
}
