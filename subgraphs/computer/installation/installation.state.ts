export const requestedInstallationStates = ["AVAILABLE", "DESTROYED"] as const;
export type RequestedInstallationState = (typeof requestedInstallationStates)[number];

export const reportedInstallationStates = ["NONE", "BUILDING", "AVAILABLE", "ERROR", "DESTROYED"] as const;
export type ReportedInstallationState = (typeof reportedInstallationStates)[number];

/**
 * A report is a node's word about what it has done, so any may follow any, with one exception: DESTROYED is believed only
 * where destruction was requested (a node that lost its folder would otherwise end a supply that the owner still wants).
 */
export function acceptsReport(requested: RequestedInstallationState, reported: ReportedInstallationState): boolean {
  return reported !== "NONE" && (reported !== "DESTROYED" || requested === "DESTROYED");
}
