/** By last contact. Lost is not dead: nothing is restarted elsewhere because of it. */
export const livenessStates = ["UNSEEN", "ONLINE", "SUSPECT", "LOST"] as const;
export type Liveness = (typeof livenessStates)[number];

/** Whether new instances may be allocated to the computer. */
export const scopes = ["OPEN", "CORDONED", "DRAINING", "CLOSED"] as const;
export type Scope = (typeof scopes)[number];

export interface LivenessThresholds {
  suspectAfterMs: number;
  lostAfterMs: number;
}

/**
 * The liveness that follows from the time since the last contact. `masterUpMs` is how long this master has been there to
 * be contacted: a master that was itself down does not declare its nodes lost.
 */
export function livenessAt(
  present: Liveness,
  sinceContactMs: number | null,
  masterUpMs: number,
  thresholds: LivenessThresholds,
): Liveness {
  if (sinceContactMs === null) return "UNSEEN";
  const silentMs = Math.min(sinceContactMs, masterUpMs);
  if (silentMs >= thresholds.lostAfterMs) return "LOST";
  if (silentMs >= thresholds.suspectAfterMs) return present === "LOST" ? "LOST" : "SUSPECT";
  // A master that has just started knows nothing new about a node that was silent before.
  return sinceContactMs < thresholds.suspectAfterMs ? "ONLINE" : present;
}
