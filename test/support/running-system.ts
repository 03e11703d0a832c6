import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { freePort } from "../../common/embedded-postgres.js";
import { waitFor } from "./wait-for.js";

const startTimeoutMs = 30_000;
const command = path.resolve(import.meta.dirname, "../../dist/cli/slapgraph.js").replace("/dist/dist/", "/dist/");

/** The system as a user starts it: a process of its own on a data dir and ports that outlive its death. */
export class RunningSystem {
  readonly dataDir: string;
  readonly environment: Record<string, string>;
  readonly gatewayUrl: string;
  readonly slapUrl: string;
  readonly shacacheUrl: string;
  #child: ChildProcess | undefined;
  #output = "";

  private constructor(ports: [gateway: number, slap: number, shacache: number], environment: Record<string, string>) {
    this.dataDir = mkdtempSync("/tmp/sg-");
    const [gateway, slap, shacache] = ports;
    this.environment = {
      PATH: process.env.PATH ?? "",
      SLAPGRAPH_DATA_DIR: this.dataDir,
      SLAPGRAPH_GATEWAY_PORT: String(gateway),
      SLAPGRAPH_SLAP_PORT: String(slap),
      SLAPGRAPH_SHACACHE_PORT: String(shacache),
      ...environment,
    };
    this.gatewayUrl = `http://127.0.0.1:${gateway}`;
    this.slapUrl = `http://127.0.0.1:${slap}`;
    this.shacacheUrl = `http://127.0.0.1:${shacache}`;
  }

  static async start(environment: Record<string, string> = {}): Promise<RunningSystem> {
    const system = new RunningSystem([await freePort(), await freePort(), await freePort()], environment);
    await system.start();
    return system;
  }

  get adminToken(): string {
    return (
      this.environment.SLAPGRAPH_ADMIN_TOKEN ?? readFileSync(path.join(this.dataDir, "admin-token"), "utf8").trim()
    );
  }

  get output(): string {
    return this.#output;
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, [command, "start"], {
      env: this.environment,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    const keep = (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString("utf8")).slice(-200_000);
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    await waitFor(
      async () => {
        if (child.exitCode !== null) throw new Error(`The system ended with code ${child.exitCode}:\n${this.#output}`);
        return fetch(`${this.gatewayUrl}/readyz`).then(
          (response) => response.status,
          () => 0,
        );
      },
      { until: (status) => status === 200, timeoutMs: startTimeoutMs, what: "readiness" },
    );
  }

  /** Ends it as a power cut would, and waits until it is gone. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Ends it as an operator would; the exit code. */
  async stop(): Promise<number | null> {
    return this.#end("SIGTERM");
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.dataDir, { recursive: true, force: true, maxRetries: 5 });
  }

  /** A GraphQL operation; throws what it answered if that has errors. */
  async graphql<Data = Record<string, never>>(
    query: string,
    variables: Record<string, unknown> = {},
    token = this.adminToken,
  ): Promise<Data> {
    const response = await fetch(`${this.gatewayUrl}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify({ query, variables }),
    });
    const text = await response.text();
    const result = JSON.parse(text) as { data?: Data; errors?: unknown[] };
    if (result.errors || !result.data) {
      throw new Error(
        `GraphQL: ${query} ${JSON.stringify(variables)}\n${text}\nrequest ${response.headers.get("x-request-id")}\n${this.#output.slice(-3000)}`,
      );
    }
    return result.data;
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null;
    const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    child.kill(signal);
    return exited;
  }
}
