import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RunningSystem, type Wiring } from "../support/running-system.js";
import { waitFor } from "../support/wait-for.js";

const wirings: Wiring[] = ["one process", "apart"];
const documented = readFileSync(path.resolve(import.meta.dirname, "../../docs/metrics.md"), "utf8");
const joined = `{ computer(reference: "SEEN") { reference lastBang { message } } }`;

interface LogLine {
  service: string;
  requestId?: string;
}

interface Span {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  service: string;
}

describe.each(wirings)("%s", (wiring) => {
  let system: RunningSystem;
  let collector: Server;
  const spans: Span[] = [];

  beforeAll(async () => {
    collector = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
      spans.push(...readSpans(Buffer.concat(chunks).toString("utf8")));
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
    await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
    const { port } = collector.address() as AddressInfo;
    system = await RunningSystem.start(
      { SLAPGRAPH_LOG_LEVEL: "debug", SLAPGRAPH_TRACES_URL: `http://127.0.0.1:${port}/v1/traces` },
      wiring,
    );
    await system.graphql('mutation { createComputer(input: { reference: "SEEN" }) { credential } }');
  });

  afterAll(async () => {
    await system.close();
    collector.close();
  });

  const ask = (requestId: string) =>
    fetch(`${system.gatewayUrl}/graphql`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-request-id": requestId,
        authorization: `Bearer ${system.adminToken}`,
      },
      body: JSON.stringify({ query: joined }),
    });
  const servicesThatLogged = (requestId: string) =>
    new Set(
      system.output
        .split("\n")
        .filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as LogLine)
        .filter((line) => line.requestId === requestId)
        .map((line) => line.service),
    );

  test("the metrics of every door are those that docs/metrics.md lists", async () => {
    const names = new Set<string>();
    const urls = [system.gatewayUrl, system.slapUrl, system.shacacheUrl, ...system.subgraphUrls.values()];
    for (const url of urls) {
      const text = await (await fetch(`${url}/metrics`)).text();
      for (const [, name, type] of text.matchAll(/^# TYPE (slapgraph_\S+) (\S+)$/gm)) {
        expect(documented, `${url} ${name}`).toContain(`| \`${name}\` | ${type} |`);
        names.add(name ?? "");
      }
      expect(text).toContain("process_cpu_seconds_total");
      expect(text).toMatch(/slapgraph_database_connections\{pool="event_log",state="idle"\} \d/);
      expect(text).toContain("process_resident_memory_bytes");
    }
    const listed = [...documented.matchAll(/^\| `(slapgraph_\w+)` \|/gm)].map(([, name]) => name);
    expect([...names].sort()).toEqual(listed.sort());
  });

  test("one request id goes through the gateway, the subgraphs and the logs of all, and comes back", async () => {
    const response = await ask(`seen-${wiring.length}`);
    expect(response.headers.get("x-request-id")).toBe(`seen-${wiring.length}`);
    const expected = wiring === "apart" ? ["computer", "gateway", "monitoring"] : ["slapgraph"];
    await waitFor(() => [...servicesThatLogged(`seen-${wiring.length}`)].sort(), {
      until: (services) => services.join() === expected.join(),
      what: "log lines with the id",
    });
    for (const [url, service] of [
      [`${system.slapUrl}/k/${system.adminToken}/getFullComputerInformation?computer_id=SEEN`, "slap"],
      [`${system.shacacheUrl}/shadir/none`, "shacache"],
    ] as const) {
      const id = `door-${service}`;
      expect((await fetch(url, { headers: { "x-request-id": id } })).headers.get("x-request-id")).toBe(id);
      const name = wiring === "apart" ? service : "slapgraph";
      await waitFor(() => [...servicesThatLogged(id)].join(), {
        until: (text) => text === name,
        what: `${id} in the log`,
      });
    }
    expect(system.output).not.toContain(system.adminToken);
    const made = (await fetch(`${system.gatewayUrl}/graphql`)).headers.get("x-request-id");
    expect(made).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("a request's spans are one trace from the gateway's door through the subgraphs to their statements", async () => {
    await (await ask("traced")).text();
    const doors = wiring === "apart" ? ["computer subgraph POST", "monitoring subgraph POST"] : [];
    const whole = await waitFor(() => wholeTrace(spans, doors), { timeoutMs: 20_000, what: "a whole trace" });
    const names = whole?.map(({ name }) => name) ?? [];
    expect(names).toEqual(expect.arrayContaining(["GraphQL POST", "subgraph computer", "subgraph monitoring"]));
    if (wiring === "apart") {
      expect(new Set(whole?.map(({ service }) => service))).toEqual(
        new Set(["slapgraph-gateway", "slapgraph-computer", "slapgraph-monitoring"]),
      );
    }
    const byId = new Map(whole?.map((span) => [span.spanId, span]));
    const statement = whole?.find(({ name }) => name === "SQL select");
    const chain: string[] = [];
    for (let span = statement; span; span = byId.get(span.parentSpanId ?? "")) chain.unshift(span.name);
    expect(chain[0]).toBe("GraphQL POST");
    expect(chain).toContain("SQL select");
  });
});

/** The spans of a trace that has the joined query's subgraphs, a statement, and these doors in it; each process sends its own. */
function wholeTrace(spans: Span[], doors: readonly string[]): Span[] | undefined {
  const wanted = ["GraphQL POST", "subgraph computer", "subgraph monitoring", "SQL select", ...doors];
  return [...Map.groupBy(spans, ({ traceId }) => traceId).values()].find((trace) =>
    wanted.every((name) => trace.some((span) => span.name === name)),
  );
}

function readSpans(json: string): Span[] {
  const { resourceSpans } = JSON.parse(json) as {
    resourceSpans: {
      resource: { attributes: { key: string; value: { stringValue?: string } }[] };
      scopeSpans: { spans: Omit<Span, "service">[] }[];
    }[];
  };
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = resource.attributes.find(({ key }) => key === "service.name")?.value.stringValue ?? "";
    return scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, service })));
  });
}
