/** Health as folded from what nodes report, in the order of the event log. Pure. */
export const healthStates = ["GREEN", "RED", "UNKNOWN"] as const;
export type Health = (typeof healthStates)[number];

/** What is known of a partition, up to and including the event at `appliedPosition`. */
export interface PartitionHealth {
  key: string;
  project: string;
  /** The owner of the instance in it; null while it is free. */
  owner: string | null;
  instanceReference: string | null;
  health: Health;
  since: Date;
  message: string | null;
  appliedPosition: number;
}

/** The events that health is made of; others pass through without a trace. */
export interface HealthEvent {
  position: number;
  at: Date;
  kind: string;
  subject: string;
  project: string;
  cause: string | null;
  payload: Record<string, unknown>;
}

const healthOfState: Record<string, Health> = {
  STARTED: "GREEN",
  STOPPED: "GREEN",
  ERROR: "RED",
  ALLOCATED: "UNKNOWN",
  FREE: "UNKNOWN",
  DESTROYING: "UNKNOWN",
};

export const healthEventKinds = ["PartitionStateChanged", "PartitionReported", "BangAccepted"] as const;

/** The health after an event. Applying an event again changes nothing, because positions only grow. */
export function applyHealthEvent(before: PartitionHealth | null, event: HealthEvent): PartitionHealth | null {
  if (before && event.position <= before.appliedPosition) return before;
  if (event.kind === "BangAccepted") {
    // A bang says that something stays broken in the partition; it stands until the node reports again.
    if (!before || event.payload.partition !== event.subject) return before;
    return { ...turn(before, "RED", event.at), message: event.cause, appliedPosition: event.position };
  }
  if (event.kind !== "PartitionStateChanged" && event.kind !== "PartitionReported") return before;
  const state = String(event.kind === "PartitionStateChanged" ? event.payload.to : event.payload.state);
  const health = healthOfState[state] ?? "UNKNOWN";
  const isFree = state === "FREE";
  const base = before ?? {
    key: event.subject,
    project: event.project,
    owner: null,
    instanceReference: null,
    health: "UNKNOWN" as const,
    since: event.at,
    message: null,
    appliedPosition: 0,
  };
  return {
    ...turn(base, health, event.at),
    project: event.project,
    owner: isFree ? null : ((event.payload.owner as string | null | undefined) ?? null),
    instanceReference: isFree ? null : ((event.payload.instance as string | null | undefined) ?? null),
    message: health === "RED" ? event.cause : null,
    appliedPosition: event.position,
  };
}

function turn(before: PartitionHealth, health: Health, at: Date): PartitionHealth {
  return before.health === health ? before : { ...before, health, since: at };
}

/** A node that is not heard of says nothing about what it runs. */
export function shownHealth(health: Health, liveness: string | undefined): Health {
  return liveness === "SUSPECT" || liveness === "LOST" ? "UNKNOWN" : health;
}
