import { Histogram } from "prom-client";
import { latencyBuckets, metrics } from "../common/metrics.js";
import { inSpan } from "../common/tracing.js";
import type { SubgraphExecutor } from "./transport.js";

const subgraphSeconds = new Histogram({
  name: "slapgraph_subgraph_request_seconds",
  help: "How long a subgraph took for one request of the gateway, subscriptions excepted.",
  labelNames: ["subgraph", "outcome"],
  buckets: latencyBuckets,
  registers: [metrics],
});

/** Counts and traces what the gateway asks of a subgraph. */
export function observed(subgraph: string, executor: SubgraphExecutor): SubgraphExecutor {
  return async (request) => {
    if (request.isSubscription) return executor(request);
    const startedAt = performance.now();
    const attributes = { "slapgraph.subgraph": subgraph, "slapgraph.request_id": request.context.requestId };
    const result = await inSpan(`subgraph ${subgraph}`, attributes, () => executor(request));
    const outcome = "errors" in result && result.errors ? "errors" : "data";
    subgraphSeconds.observe({ subgraph, outcome }, (performance.now() - startedAt) / 1000);
    return result;
  };
}
