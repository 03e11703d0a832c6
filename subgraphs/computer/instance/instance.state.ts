export const requestedStates = ["STARTED", "STOPPED", "DESTROYED"] as const;
export type RequestedState = (typeof requestedStates)[number];

export const allocationStates = ["PENDING", "ALLOCATED", "RELEASED"] as const;
export type AllocationState = (typeof allocationStates)[number];

export const reportedStates = ["NONE", "STARTED", "STOPPED", "ERROR", "DESTROYED"] as const;
export type ReportedState = (typeof reportedStates)[number];

const allocationTable: Record<AllocationState, readonly AllocationState[]> = {
  PENDING: ["ALLOCATED", "RELEASED"],
  // Back to pending goes only a shared instance whose host has ended or no longer fits.
  ALLOCATED: ["RELEASED", "PENDING"],
  RELEASED: [],
};

export function mayAllocationBecome(from: AllocationState, to: AllocationState): boolean {
  return allocationTable[from].includes(to);
}

/** Destruction is final: a name that is wanted again is a new instance. Stopping and starting go both ways. */
export function mayRequestBecome(from: RequestedState, to: RequestedState): boolean {
  return from !== "DESTROYED" || to === "DESTROYED";
}
