import http from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import type { RunningSystem } from "./running-system.js";
import { slapForms, slapPost } from "./slap-client.js";
import { waitFor } from "./wait-for.js";

export interface ReportRunOptions {
  system: RunningSystem;
  computers: number;
  partitionsPerComputer: number;
  perSecond: number;
  seconds: number;
}

const releaseUrl = "http://release.example/reported/software.cfg";
const query = `subscription { partitionStateChanged { cursor change { to cause
  partition { key state health instance { reference title } } } } }`;
const tickMs = 5;
/** Not counted: the first code runs, and the first connections open. */
const warmUpSeconds = 5;

interface Told {
  data?: { partitionStateChanged: { change: { partition: { key: string } | null } | null } };
}

/** Nodes' reports at a steady rate, a partition after the other; from the sending of each until a subscriber has its event, in ms. */
export async function runReports(options: ReportRunOptions): Promise<number[]> {
  const { system, computers, partitionsPerComputer, perSecond, seconds } = options;
  const keys: string[] = [];
  const masterUrls = new Map<string, string>();
  const furnish = async (reference: string) => {
    const { createComputer } = await system.graphql<{ createComputer: { credential: string } }>(
      "mutation ($reference: String!) { createComputer(input: { reference: $reference }) { credential } }",
      { reference },
    );
    const masterUrl = `${system.slapUrl}/k/${createComputer.credential}/`;
    await slapPost(masterUrl, "loadComputerConfigurationFromXML", slapForms.format(reference, partitionsPerComputer));
    for (let part = 0; part < partitionsPerComputer; part++) {
      await system.graphql(
        `mutation ($title: String!, $url: String!, $computer: String!) {
          requestInstance(input: { title: $title, releaseUrl: $url, computerReference: $computer }) { userErrors { code } } }`,
        { title: `${reference} ${part}`, url: releaseUrl, computer: reference },
      );
    }
    masterUrls.set(reference, masterUrl);
  };
  await Promise.all(Array.from({ length: computers }, (_, number) => furnish(`REPORTING-${number}`)));
  // One computer after the other: what is written for several partitions of one at a time would be written together.
  for (let part = 0; part < partitionsPerComputer; part++)
    for (const reference of masterUrls.keys()) keys.push(`${reference}/slappart${part}`);

  const sentAt = new Map<string, number[]>(keys.map((key) => [key, []]));
  const latenciesMs: number[] = [];
  let isOpen = false;
  const client = createClient({
    url: `${system.gatewayUrl.replace("http", "ws")}/graphql`,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    connectionParams: { authorization: `Bearer ${system.adminToken}` },
  });
  client.subscribe<Told["data"]>(
    { query },
    {
      next: ({ data }) => {
        isOpen = true;
        const key = data?.partitionStateChanged.change?.partition?.key ?? "";
        const started = sentAt.get(key)?.shift();
        if (started !== undefined) latenciesMs.push(performance.now() - started);
      },
      error: () => undefined,
      complete: () => undefined,
    },
  );
  await waitFor(() => isOpen, { what: "the open subscription" });

  const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
  const startedAt = performance.now();
  const failures: string[] = [];
  const amount = perSecond * (warmUpSeconds + seconds);
  for (let sent = 0; sent < amount; ) {
    const due = Math.min(amount, Math.floor(((performance.now() - startedAt) / 1000) * perSecond));
    for (; sent < due; sent++) {
      const key = keys[sent % keys.length] ?? "";
      const isError = Math.floor(sent / keys.length) % 2 === 0;
      const url = `${masterUrls.get(key.split("/", 1)[0] ?? "")}${isError ? "softwareInstanceError" : "startedComputerPartition"}`;
      const body = isError ? slapForms.error(key, `a promise fails ${sent}`) : slapForms.partition(key);
      sentAt.get(key)?.push(performance.now());
      post(url, agent, body).catch((error: Error) => failures.push(error.message));
    }
    await delay(tickMs);
  }
  await waitFor(() => latenciesMs.length + failures.length, {
    until: (count) => count >= amount,
    timeoutMs: 60_000,
    what: "an event for each report",
  });
  agent.destroy();
  await client.dispose();
  if (failures[0] !== undefined) throw new Error(`${failures.length} reports failed: ${failures[0]}`);
  return latenciesMs.slice(perSecond * warmUpSeconds).sort((a, b) => a - b);
}

function post(url: string, agent: http.Agent, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = {
      "content-type": "application/x-www-form-urlencoded",
      "content-length": Buffer.byteLength(body),
    };
    const request = http.request(url, { agent, method: "POST", headers }, (response) => {
      response.resume();
      response.once("end", () =>
        response.statusCode === 200
          ? resolve()
          : reject(new Error(`a report was answered with ${response.statusCode}`)),
      );
    });
    request.once("error", reject);
    request.end(body);
  });
}
