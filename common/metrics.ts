import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

/** What every process counts. docs/metrics.md lists each, and a test holds the list to what the doors answer. */
export const metrics = new Registry();
collectDefaultMetrics({ register: metrics });

const registers = [metrics];
export const latencyBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export const requestSeconds = new Histogram({
  name: "slapgraph_http_request_seconds",
  help: "How long a door took for a request, event streams excepted.",
  labelNames: ["door", "method", "status"],
  buckets: latencyBuckets,
  registers,
});

export const openStreams = new Gauge({
  name: "slapgraph_event_streams_open",
  help: "Subscriptions that follow the event log here.",
  registers,
});

export const eventsDelivered = new Counter({
  name: "slapgraph_event_stream_changes_total",
  help: "Changes that were given to subscriptions here.",
  registers,
});

export const eventHorizon = new Gauge({
  name: "slapgraph_event_horizon",
  help: "The position up to which the event log is settled and readable here.",
  registers,
});

export const eventLagSeconds = new Histogram({
  name: "slapgraph_event_lag_seconds",
  help: "From the writing of an event until it was readable here.",
  buckets: latencyBuckets,
  registers,
});

export const consumerBehind = new Gauge({
  name: "slapgraph_event_consumer_behind",
  help: "Positions of the event log that a consumer has not handled yet.",
  labelNames: ["consumer"],
  registers,
});

/** A pool of connections, as far as it is counted. */
export interface CountedPool {
  totalCount: number;
  idleCount: number;
  waitingCount: number;
  ended: boolean;
}

const pools = new Map<CountedPool, string>();

new Gauge({
  name: "slapgraph_database_connections",
  help: "Connections of a pool by state, and (waiting) calls that wait for one.",
  labelNames: ["pool", "state"],
  registers,
  collect() {
    this.reset();
    for (const [pool, name] of pools) {
      if (pool.ended) pools.delete(pool);
      this.set({ pool: name, state: "used" }, pool.totalCount - pool.idleCount);
      this.set({ pool: name, state: "idle" }, pool.idleCount);
      this.set({ pool: name, state: "waiting" }, pool.waitingCount);
    }
  },
});

export function countConnections(pool: CountedPool, name: string): void {
  pools.set(pool, name);
}
