import { context, propagation, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import type { PoolClient } from "pg";

/**
 * OpenTelemetry spans from a door's request through the subgraphs to their statements. Off by default: then the API's own
 * no-operations stand here, the exporter is not even loaded, and no statement is wrapped.
 */
let isOn = false;
const tracer = trace.getTracer("slapgraph");

/** Sends spans to a collector (OTLP over HTTP, JSON). Returns what sends the last ones at the end. */
export async function startTracing(url: string, service: string): Promise<() => Promise<void>> {
  const [
    { BatchSpanProcessor, TracerProvider },
    { OTLPTraceExporter },
    { AsyncLocalStorageContextManager },
    core,
    resources,
  ] = await Promise.all([
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/exporter-trace-otlp-http"),
    import("@opentelemetry/context-async-hooks"),
    import("@opentelemetry/core"),
    import("@opentelemetry/resources"),
  ]);
  const provider = new TracerProvider({
    resource: resources.resourceFromAttributes({ "service.name": `slapgraph-${service}` }),
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter({ url }) })],
  });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new core.W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(provider);
  isOn = true;
  return () => provider.shutdown();
}

type Attributes = Record<string, string | number>;

/** Runs work in a span of its own. What it throws ends the span as an error. */
export async function inSpan<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
  if (!isOn) return work();
  return tracer.startActiveSpan(name, { kind: SpanKind.CLIENT, attributes }, async (span) => {
    try {
      return await work();
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: (error as Error).message });
      throw error;
    } finally {
      span.end();
    }
  });
}

/** Runs a request's handler in a span that goes on from the caller's, and is ended by the function it is handed. */
export function inRequestSpan(
  name: string,
  headers: Record<string, unknown>,
  attributes: Attributes,
  work: (end: (status: number) => void) => unknown,
): unknown {
  if (!isOn) return work(() => undefined);
  const parent = propagation.extract(context.active(), headers);
  return tracer.startActiveSpan(name, { kind: SpanKind.SERVER, attributes }, parent, (span) =>
    work((status) => {
      span.setAttribute("http.response.status_code", status);
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
    }),
  );
}

/** The headers by which the next process goes on with this trace; none when tracing is off. */
export function traceHeaders(): Record<string, string> {
  const headers: Record<string, string> = {};
  if (isOn) propagation.inject(context.active(), headers);
  return headers;
}

const maxStatementLength = 500;

/** Gives each statement of a connection a span; without parameters, which may hold secrets. */
export function traceStatements(client: PoolClient, pool: string): void {
  if (!isOn) return;
  const query = client.query.bind(client) as (...args: unknown[]) => Promise<unknown>;
  (client as unknown as { query: unknown }).query = (...args: unknown[]) => {
    const [first] = args as [string | { text?: string }];
    const statement = typeof first === "string" ? first : first.text;
    if (statement === undefined || typeof args.at(-1) === "function") return query(...args);
    const attributes = {
      "db.system.name": "postgresql",
      "db.query.text": statement.slice(0, maxStatementLength),
      "db.namespace": pool,
    };
    return inSpan(`SQL ${/^\s*(\w+)/.exec(statement)?.[1] ?? ""}`, attributes, () => query(...args));
  };
}
