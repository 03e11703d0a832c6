import { createHash, randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { dumps } from "../../slap/xml-marshaller.js";
import { Ledger } from "./ledger.js";
import type { RunningSystem } from "./running-system.js";

const partitionCount = 4;
const paceMs = { report: 200, request: 200, upload: 300 };
/** Beyond what the S3 store keeps in memory, so that uploads in parts are cut too. */
const largeBlobBytes = 9 * 1024 * 1024;
const callTimeoutMs = 15_000;
const releaseUrl = "http://release.example/load/software.cfg";

/** Nodes, people and builders that use the system without a pause and go on whatever happens to it. */
export class Load {
  readonly ledger = new Ledger();
  readonly #system: RunningSystem;
  readonly #computers: { reference: string; credential: string }[] = [];
  readonly #stopping = new AbortController();
  #running: Promise<void>[] = [];
  #resumed: Promise<void> = Promise.resolve();
  #resume: () => void = () => undefined;
  #number = 0;
  /** Answers that no client may get, whatever was killed. */
  readonly faults: string[] = [];

  private constructor(system: RunningSystem) {
    this.#system = system;
  }

  /** Some computers whose partitions all hold an instance. */
  static async prepare(system: RunningSystem, computerCount: number): Promise<Load> {
    const load = new Load(system);
    for (let number = 0; number < computerCount; number++) {
      const reference = `LOAD-${number}`;
      const { createComputer } = await system.graphql<{ createComputer: { credential: string } }>(
        "mutation ($reference: String!) { createComputer(input: { reference: $reference }) { credential } }",
        { reference },
      );
      const computer = { reference, credential: createComputer.credential };
      load.#computers.push(computer);
      const partitions = Array.from({ length: partitionCount }, (_, part) => ({
        reference: `slappart${part}`,
        tap: { name: `slaptap${part}` },
        address_list: [{ addr: `10.0.${number}.${part}`, netmask: "255.255.255.255" }],
      }));
      const xml = dumps({ reference, partition_list: partitions });
      await load.#slap(computer.credential, "loadComputerConfigurationFromXML", { xml });
      for (let part = 0; part < partitionCount; part++) await load.#request(`held-${number}-${part}`, reference);
    }
    return load;
  }

  start(): void {
    for (const computer of this.#computers) {
      for (let part = 0; part < partitionCount; part++)
        this.#repeat(paceMs.report, () => this.#report(computer.reference, computer.credential, part));
    }
    // Nobody has that computer, so these wait for ever, and cost nothing but their place.
    this.#repeat(paceMs.request, () => this.#request(`load-${this.#number++}`, "LOAD-404"));
    this.#repeat(paceMs.upload, () => this.#upload());
  }

  /** Sends nothing more until `resume`, so that a slow machine's subscribers can catch up. */
  pause(): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#resumed = promise;
    this.#resume = resolve;
  }

  resume(): void {
    this.#resume();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#resume();
    await Promise.all(this.#running);
    this.#running = [];
  }

  /** A call that fails is not tried again: the next one is another. */
  #repeat(everyMs: number, work: () => Promise<void>): void {
    const { signal } = this.#stopping;
    const run = async () => {
      while (!signal.aborted) {
        await this.#resumed;
        await work().catch((error: Error) => {
          if (error.name === "FaultError") this.faults.push(error.message);
        });
        await delay(everyMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
      }
    };
    this.#running.push(run());
  }

  async #report(computer: string, credential: string, part: number): Promise<void> {
    const fields = { computer_id: computer, computer_partition_id: `slappart${part}` };
    const cause = `error ${computer}/${part} ${this.#number++}`;
    await this.#slap(credential, "softwareInstanceError", { ...fields, error_log: cause });
    this.ledger.reports.push(cause);
    await this.#slap(credential, "startedComputerPartition", fields);
  }

  async #request(title: string, computerReference: string): Promise<void> {
    const { requestInstance } = await this.#graphql<{ requestInstance: { instance: { reference: string } } }>(
      `mutation ($title: String!, $url: String!, $computer: String!) {
        requestInstance(input: { title: $title, releaseUrl: $url, computerReference: $computer }) { instance { reference } } }`,
      { title, url: releaseUrl, computer: computerReference },
    );
    this.ledger.requests.push({ reference: requestInstance.instance.reference, title });
  }

  async #upload(): Promise<void> {
    const isLarge = this.#number++ % 10 === 0;
    const bytes = randomBytes(isLarge ? largeBlobBytes : 1 + Math.floor(Math.random() * 200_000));
    const sha512 = createHash("sha512").update(bytes).digest("hex");
    const response = await fetch(`${this.#system.shacacheUrl}/k/${this.#system.adminToken}/shacache`, {
      method: "POST",
      body: bytes,
      signal: AbortSignal.timeout(callTimeoutMs),
    });
    const text = await response.text();
    assertAnswer("upload", response.status, [201], text);
    if (text !== sha512) throw new FaultError(`an upload was answered with ${text.slice(0, 200)}`);
    this.ledger.blobs.push(sha512);
  }

  async #slap(credential: string, endpoint: string, fields: Record<string, string>): Promise<void> {
    const response = await fetch(`${this.#system.slapUrl}/k/${credential}/${endpoint}`, {
      method: "POST",
      body: new URLSearchParams(fields),
      signal: AbortSignal.timeout(callTimeoutMs),
    });
    assertAnswer(endpoint, response.status, [200], await response.text());
  }

  async #graphql<Data>(query: string, variables: Record<string, unknown>): Promise<Data> {
    const response = await fetch(`${this.#system.gatewayUrl}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${this.#system.adminToken}` },
      body: JSON.stringify({ query, variables }),
      signal: AbortSignal.timeout(callTimeoutMs),
    });
    const text = await response.text();
    const { data, errors } = JSON.parse(text) as { data?: Data; errors?: { extensions?: { code?: string } }[] };
    if (errors?.some(({ extensions }) => extensions?.code !== "UNAVAILABLE")) throw new FaultError(text);
    if (errors || !data) throw new Error("try again");
    return data;
  }
}

/** An answer that says something other than what was asked for or "try again". */
class FaultError extends Error {
  override readonly name = "FaultError";
}

function assertAnswer(what: string, status: number, expected: number[], text: string): void {
  if (expected.includes(status)) return;
  if (status !== 503) throw new FaultError(`${what} was answered with ${status}: ${text.slice(0, 300)}`);
  if (!text.startsWith("UNAVAILABLE")) throw new FaultError(`${what} was answered with 503: ${text.slice(0, 300)}`);
  throw new Error("try again");
}
