import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { freePort } from "../../common/embedded-postgres.js";
import { ServiceKey } from "../../common/service-key.js";
import { readRows } from "../support/ledger.js";
import { RunningSystem } from "../support/running-system.js";
import { slapForms } from "../support/slap-client.js";
import { waitFor } from "../support/wait-for.js";
import type { Told } from "./gateway-alone.js";
import { endAfterwards, median, say } from "./report.js";

/**
 * What the gateway costs beside a direct subgraph and beside Apollo's gateway, which is not a dependency of ours: put it into
 * a folder elsewhere (npm install @apollo/gateway@2.14.4 @apollo/server@5.5.1 graphql@16.15.0) and name that in APOLLO_FOLDER.
 */
const connections = 8;
const seconds = 4;
const rounds = 3;
const subscriberCount = 1_000;
const single =
  "query ($c: String!) { computer(reference: $c) { reference liveness partitions(first: 20) { edges { node { key state } } } } }";
const joined = single.replace("key state", "key state health");

interface Target {
  name: string;
  url: string;
  pid: number;
  headers: () => Record<string, string>;
}

interface Figure {
  rps: number;
  cpuMs: number;
}

export async function run(): Promise<void> {
  const apart = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" }, "apart");
  endAfterwards(() => apart.close());
  const together = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" });
  endAfterwards(() => together.close());
  const serviceKey = await ServiceKey.open(apart.dataDir);
  const apartTokens = await computersOf(apart);
  const togetherTokens = await computersOf(together);
  const plain = () => ({});
  const direct: Target = {
    name: "direct subgraph",
    url: `${apart.subgraphUrls.get("computer")}/graphql`,
    pid: apart.pidOf("computer"),
    headers: () => ({ "x-slapgraph-service": serviceKey.sign() }),
  };
  const ours: Target = {
    name: "our gateway, HTTP",
    url: `${apart.gatewayUrl}/graphql`,
    pid: apart.pidOf("gateway"),
    headers: plain,
  };
  const whole: Target = {
    name: "one process",
    url: `${together.gatewayUrl}/graphql`,
    pid: together.pidOf("slapgraph"),
    headers: plain,
  };
  const apollo = await startApollo(apart, serviceKey);
  for (const [what, query] of [
    ["one subgraph", single],
    ["join of two", joined],
  ] as const) {
    const targets = [...(query === single ? [direct] : []), ours, ...(apollo ? [apollo] : []), whole];
    const figures = new Map<string, Figure[]>(targets.map(({ name }) => [name, []]));
    for (let round = 0; round <= rounds; round++) {
      for (const target of targets) {
        const figure = await measure(target, query, target === whole ? togetherTokens : apartTokens);
        // The first round warms up.
        if (round > 0) figures.get(target.name)?.push(figure);
      }
    }
    for (const [name, all] of figures) {
      const rps = median(all.map((one) => one.rps));
      const cpuMs = median(all.map((one) => one.cpuMs));
      say(
        `${what.padEnd(13)} ${name.padEnd(20)} ${rps.toFixed(0).padStart(6)} requests/s, ${cpuMs.toFixed(2)} ms CPU of its process each`,
      );
    }
  }
  await share(apart, apartTokens);
  if (!apollo) say("@apollo/gateway was not measured: APOLLO_FOLDER names no folder that has it");
  await fanOut(together);
}

/** In one process: what a join takes through the door, less what its subgraphs do of it. */
async function share(system: RunningSystem, clients: Told["clients"]): Promise<void> {
  const child = fork(path.join(import.meta.dirname, "gateway-alone.js"), {
    env: { DATABASE_URL: system.databaseUrl, SLAPGRAPH_DATA_DIR: system.dataDir, PATH: process.env.PATH },
  });
  endAfterwards(() => child.kill("SIGKILL"));
  const [url] = (await once(child, "message")) as [string];
  const pid = child.pid ?? 0;
  const target = { name: "gateway alone", url: `${url}/graphql`, pid, headers: () => ({}) };
  const all: { through: number; within: number }[] = [];
  for (let round = 0; round <= rounds; round++) {
    const through = (await measure(target, joined, clients)).cpuMs;
    const within = await withoutDoor(child, clients);
    if (round > 0) all.push({ through, within });
  }
  const through = median(all.map((one) => one.through));
  const within = median(all.map((one) => one.within));
  const difference = median(all.map((one) => one.through - one.within));
  say(
    `join of two   in one process       ${through.toFixed(2)} ms CPU through the gateway, ${within.toFixed(2)} without: its share ${difference.toFixed(2)} ms, goal 0.6`,
  );
}

async function withoutDoor(child: ChildProcess, clients: Told["clients"]): Promise<number> {
  const before = cpuMsOf(child.pid ?? 0);
  child.send({ seconds, clients } satisfies Told);
  const [count] = (await once(child, "message")) as [number];
  return (cpuMsOf(child.pid ?? 0) - before) / count;
}

/** Computers with partitions, a distinct token each. */
async function computersOf(system: RunningSystem): Promise<{ computer: string; token: string }[]> {
  const all: { computer: string; token: string }[] = [];
  for (let number = 0; number < connections; number++) {
    const computer = `BENCH-${number}`;
    const { createComputer } = await system.graphql<{ createComputer: { credential: string } }>(
      "mutation ($c: String!) { createComputer(input: { reference: $c }) { credential } }",
      { c: computer },
    );
    const token = createComputer.credential;
    await fetch(`${system.slapUrl}/k/${token}/loadComputerConfigurationFromXML`, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: slapForms.format(computer, 10),
    });
    all.push({ computer, token });
  }
  return all;
}

async function measure(target: Target, query: string, clients: { computer: string; token: string }[]): Promise<Figure> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections });
  const before = cpuMsOf(target.pid);
  const startedAt = performance.now();
  let count = 0;
  await Promise.all(
    clients.map(async ({ computer, token }) => {
      const body = JSON.stringify({ query, variables: { c: computer } });
      while (performance.now() - startedAt < seconds * 1000) {
        const text = await post(target, agent, token, body);
        if (text.includes('"errors"') || !text.includes("slappart9"))
          throw new Error(`${target.name}: ${text.slice(0, 300)}`);
        count++;
      }
    }),
  );
  agent.destroy();
  const elapsedMs = performance.now() - startedAt;
  return { rps: count / (elapsedMs / 1000), cpuMs: (cpuMsOf(target.pid) - before) / count };
}

function post({ url, headers }: Target, agent: http.Agent, token: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const all = {
      "content-type": "application/json",
      authorization: `Bearer ${token}`,
      "content-length": Buffer.byteLength(body),
      ...headers(),
    };
    const request = http.request(url, { agent, method: "POST", headers: all }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.once("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
      response.once("error", reject);
    });
    request.once("error", reject);
    request.end(body);
  });
}

const ticksPerSecond = 100;

function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) / ticksPerSecond) * 1000;
}

async function startApollo(system: RunningSystem, serviceKey: ServiceKey): Promise<Target | null> {
  const folder = process.env.APOLLO_FOLDER ?? "";
  if (!existsSync(path.join(folder, "node_modules/@apollo/gateway"))) return null;
  const port = await freePort();
  let supergraph = readFileSync("schema/supergraph.graphql", "utf8");
  for (const [name, url] of system.subgraphUrls)
    supergraph = supergraph.replace(`http://${name}.subgraph/graphql`, `${url}/graphql`);
  writeFileSync(path.join(folder, "supergraph.graphql"), supergraph);
  writeFileSync(path.join(folder, "peer.mjs"), apolloPeer);
  const child = spawn(process.execPath, ["peer.mjs", String(port), serviceKey.sign()], {
    cwd: folder,
    stdio: ["ignore", "inherit", "inherit"],
  });
  endAfterwards(() => child.kill("SIGKILL"));
  const url = `http://127.0.0.1:${port}/`;
  await waitFor(() => fetch(url, { method: "POST" }).then(Boolean, () => false), {
    timeoutMs: 30_000,
    what: "Apollo's gateway",
  });
  return { name: "@apollo/gateway, HTTP", url, pid: child.pid ?? 0, headers: () => ({}) };
}

const apolloPeer = `import { readFileSync } from "node:fs";
import { ApolloGateway, RemoteGraphQLDataSource } from "@apollo/gateway";
import { ApolloServer } from "@apollo/server";
import { startStandaloneServer } from "@apollo/server/standalone";
class Source extends RemoteGraphQLDataSource {
  willSendRequest({ request, context }) {
    if (context.authorization) request.http.headers.set("authorization", context.authorization);
    request.http.headers.set("x-slapgraph-service", process.argv[3]);
  }
}
const gateway = new ApolloGateway({ supergraphSdl: readFileSync("supergraph.graphql", "utf8"), buildService: ({ url }) => new Source({ url }) });
const server = new ApolloServer({ gateway, csrfPrevention: false });
await startStandaloneServer(server, { listen: { port: Number(process.argv[2]), host: "127.0.0.1" }, context: async ({ req }) => ({ authorization: req.headers.authorization }) });
`;

/** One event to all: how much longer it takes with a join. */
async function fanOut(system: RunningSystem): Promise<void> {
  const tokens = await peopleOf(system);
  const times: number[] = [];
  for (const selection of ["key state", "key state health"]) {
    const clients = tokens.map((token) => follow(system, token, selection));
    await waitFor(() => clients.filter(({ seen }) => seen.count > 0).length, {
      until: (count) => count === clients.length,
      timeoutMs: 60_000,
      what: "open subscriptions",
    });
    const taken: number[] = [];
    for (let round = 0; round < 6; round++) {
      const startedAt = performance.now();
      await appendEvent(system);
      await waitFor(() => clients.filter(({ seen }) => seen.count > round + 1).length, {
        until: (count) => count === clients.length,
        timeoutMs: 60_000,
        what: "the event at all",
      });
      if (round > 0) taken.push(performance.now() - startedAt);
    }
    for (const { close } of clients) close();
    times.push(median(taken));
    say(`${clients.length} subscribers, one event until all have it, { ${selection} }: ${median(taken).toFixed(0)} ms`);
  }
  const [without = 0, withJoin = 0] = times;
  say(`with the join ${(withJoin / without).toFixed(2)} × as long, goal 1.5`);
}

async function peopleOf(system: RunningSystem): Promise<string[]> {
  await system.graphql('mutation { createPerson(input: { subject: "bench" }) { userErrors { code } } }');
  const tokens: string[] = [];
  while (tokens.length < subscriberCount) {
    const one = 'createToken(input: { person: "bench", role: VIEWER }) { secret }';
    const many = Array.from({ length: 25 }, (_, index) => `t${index}: ${one}`).join("\n");
    const made = await system.graphql<Record<string, { secret: string }>>(`mutation { ${many} }`);
    tokens.push(...Object.values(made).map(({ secret }) => secret));
  }
  return tokens;
}

function follow(system: RunningSystem, token: string, selection: string) {
  const seen = { count: 0 };
  const client = createClient({
    url: `${system.gatewayUrl.replace("http", "ws")}/graphql`,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    connectionParams: { authorization: `Bearer ${token}` },
  });
  const query = `subscription { partitionStateChanged { cursor change { to partition { ${selection} } } } }`;
  const sink = { next: () => void seen.count++, error: () => undefined, complete: () => undefined };
  const done = client.subscribe({ query }, sink);
  return {
    seen,
    close: () => {
      done();
      void client.dispose();
    },
  };
}

function appendEvent(system: RunningSystem): Promise<unknown> {
  return readRows(
    system.databaseUrl,
    `insert into event_log.event (transaction, position, kind, subject, project, actor, payload)
     values (pg_current_xact_id(), nextval('event_log.event_position'), 'PartitionStateChanged', 'BENCH-0/slappart0', 'main', 'bench',
       '{"from": "FREE", "to": "ALLOCATED", "instance": null, "owner": null}')`,
  );
}
