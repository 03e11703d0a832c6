export const releaseStates = ["PUBLISHED", "DEPRECATED", "WITHDRAWN"] as const;
export type ReleaseState = (typeof releaseStates)[number];

const table: Record<ReleaseState, readonly ReleaseState[]> = {
  PUBLISHED: ["DEPRECATED", "WITHDRAWN"],
  DEPRECATED: ["PUBLISHED", "WITHDRAWN"],
  // What was withdrawn comes back by being published again.
  WITHDRAWN: ["PUBLISHED"],
};

export function mayReleaseBecome(from: ReleaseState, to: ReleaseState): boolean {
  return from === to || table[from].includes(to);
}
