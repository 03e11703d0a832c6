export const partitionStates = ["FREE", "ALLOCATED", "STARTED", "STOPPED", "ERROR", "DESTROYING"] as const;
export type PartitionState = (typeof partitionStates)[number];

/** What happens to a partition: the master allocates, asks for its end, frees; the node reports. */
export const partitionTriggers = [
  "allocate",
  "reportStarted",
  "reportStopped",
  "reportError",
  "requestDestruction",
  "withdrawDestruction",
  "free",
] as const;
export type PartitionTrigger = (typeof partitionTriggers)[number];

const reports = { reportStarted: "STARTED", reportStopped: "STOPPED", reportError: "ERROR" } as const;
const occupied = {
  ...reports,
  requestDestruction: "DESTROYING",
  // The node may have wiped the partition before the destruction was asked for by whom it was (a forced report).
  free: "FREE",
} as const;

const table: Record<PartitionState, Partial<Record<PartitionTrigger, PartitionState>>> = {
  FREE: { allocate: "ALLOCATED" },
  ALLOCATED: occupied,
  STARTED: occupied,
  STOPPED: occupied,
  ERROR: occupied,
  // Stopping is part of destroying, and an error on the way does not call it off: the node tries again.
  DESTROYING: {
    reportStarted: "DESTROYING",
    reportStopped: "DESTROYING",
    reportError: "DESTROYING",
    requestDestruction: "DESTROYING",
    withdrawDestruction: "ALLOCATED",
    free: "FREE",
  },
};

/** The state after a trigger, or null where the table has no such transition. */
export function nextPartitionState(state: PartitionState, trigger: PartitionTrigger): PartitionState | null {
  return table[state][trigger] ?? null;
}
