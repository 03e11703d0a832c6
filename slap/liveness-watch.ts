import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "../common/log.js";
import type { ComputerService } from "../subgraphs/computer/computer/computer.service.js";
import type { LivenessThresholds } from "../subgraphs/computer/computer/computer.state.js";

const maxIntervalMs = 30_000;

/**
 * Looks for nodes that have gone silent, for as long as the SLAP door is open: only then can they be heard. The time
 * counts from anew after a sweep that failed or came late (the database was away, the machine slept), because what nodes
 * said meanwhile was lost with it.
 */
export function watchLiveness(
  computers: Pick<ComputerService, "sweepLiveness">,
  thresholds: LivenessThresholds,
  log: Logger,
): { close(): Promise<void> } {
  const intervalMs = Math.min(maxIntervalMs, thresholds.suspectAfterMs / 4);
  const stopping = new AbortController();
  const { signal } = stopping;
  const watch = async () => {
    let openSince = Date.now();
    for (let sweptAt = openSince; ; sweptAt = Date.now()) {
      await delay(intervalMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      const now = Date.now();
      if (now - sweptAt > 3 * intervalMs) openSince = now;
      try {
        await computers.sweepLiveness(now - openSince, thresholds);
      } catch (error) {
        log.warn({ err: error }, "the liveness sweep failed");
        openSince = Date.now();
      }
    }
  };
  const watching = watch();
  return {
    close: () => {
      stopping.abort();
      return watching;
    },
  };
}
