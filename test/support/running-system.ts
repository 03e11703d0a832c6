import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { type EmbeddedPostgres, freePort, startEmbeddedPostgres } from "../../common/embedded-postgres.js";
import { composeSystem } from "./composed-system.js";
import type { MinioServer } from "./minio-server.js";
import { testLog } from "./test-log.js";
import { waitFor } from "./wait-for.js";

const startTimeoutMs = 120_000;
const root = path.resolve(import.meta.dirname, "../..");
/** What is run is what was compiled, also where this file was. */
const built = (file: string) => path.join(path.basename(root) === "dist" ? root : path.join(root, "dist"), file);

/** In one process the gateway calls the subgraphs itself; apart, over HTTP and WebSocket; composed, as docker-compose.yml says. */
export type Wiring = "one process" | "apart" | "composed";

interface Program {
  /** The service's name; `slapgraph` where all run in one process. */
  name: string;
  script: string;
  args: string[];
  environment: Record<string, string>;
}

/** The system as a user starts it: processes of their own, on a data dir and ports that outlive their death. */
export class RunningSystem {
  readonly dataDir: string;
  readonly gatewayUrl: string;
  readonly slapUrl: string;
  readonly shacacheUrl: string;
  readonly #programs: Program[];
  readonly #environment: Record<string, string>;
  /** Apart, the database is not the system's own: it goes on when the system is killed. */
  readonly #postgres: EmbeddedPostgres | undefined;
  readonly #children = new Map<string, ChildProcess>();
  #minio: MinioServer | undefined;
  #output = "";

  private constructor(
    dataDir: string,
    environment: Record<string, string>,
    programs: Program[],
    postgres?: EmbeddedPostgres,
    hosts = {
      gateway: `127.0.0.1:${environment.SLAPGRAPH_GATEWAY_PORT}`,
      slap: `127.0.0.1:${environment.SLAPGRAPH_SLAP_PORT}`,
      shacache: `127.0.0.1:${environment.SLAPGRAPH_SHACACHE_PORT}`,
    },
  ) {
    this.dataDir = dataDir;
    this.#environment = environment;
    this.#programs = programs;
    this.#postgres = postgres;
    this.gatewayUrl = `http://${hosts.gateway}`;
    this.slapUrl = `http://${hosts.slap}`;
    this.shacacheUrl = `http://${hosts.shacache}`;
  }

  static async start(extra: Record<string, string> = {}, wiring: Wiring = "one process"): Promise<RunningSystem> {
    const dataDir = extra.SLAPGRAPH_DATA_DIR ?? mkdtempSync("/tmp/sg-");
    chmodSync(dataDir, 0o755);
    const environment: Record<string, string> = {
      PATH: process.env.PATH ?? "",
      SLAPGRAPH_DATA_DIR: dataDir,
      SLAPGRAPH_GATEWAY_PORT: String(await freePort()),
      SLAPGRAPH_SLAP_PORT: String(await freePort()),
      SLAPGRAPH_SHACACHE_PORT: String(await freePort()),
      ...extra,
    };
    const system =
      wiring === "composed"
        ? await RunningSystem.#composed(dataDir)
        : wiring === "one process"
          ? new RunningSystem(dataDir, environment, [
              { name: "slapgraph", script: "cli/slapgraph.js", args: ["start"], environment: {} },
            ])
          : await RunningSystem.#apart(dataDir, environment);
    await system.start();
    return system;
  }

  static async #composed(dataDir: string): Promise<RunningSystem> {
    const { programs, postgres, minio, addressOf } = await composeSystem(dataDir);
    const urls = {
      gateway: `${addressOf("gateway")}:4000`,
      slap: `${addressOf("slap")}:4001`,
      shacache: `${addressOf("shacache")}:4002`,
    };
    const [first] = programs;
    const environment = {
      PATH: process.env.PATH ?? "",
      SLAPGRAPH_ADMIN_TOKEN: first?.environment.SLAPGRAPH_ADMIN_TOKEN ?? "",
    };
    const system = new RunningSystem(dataDir, environment, programs, postgres, urls);
    system.#minio = minio;
    return system;
  }

  static async #apart(dataDir: string, environment: Record<string, string>): Promise<RunningSystem> {
    const postgres = await startEmbeddedPostgres({
      dir: `${dataDir}/database`,
      password: "apart",
      database: "slapgraph",
      log: testLog,
    });
    environment.DATABASE_URL = postgres.url;
    const services = [
      ["SLAPGRAPH_IDENTITY_URL", "subgraphs/identity/main.js"],
      ["SLAPGRAPH_CATALOG_URL", "subgraphs/catalog/main.js"],
      ["SLAPGRAPH_COMPUTER_URL", "subgraphs/computer/main.js"],
      ["SLAPGRAPH_MONITORING_URL", "subgraphs/monitoring/main.js"],
      ["SLAPGRAPH_SHACACHE_SUBGRAPH_URL", "shacache/main.js"],
    ] as const;
    const programs: Program[] = [];
    for (const [variable, script] of services) {
      const port = String(await freePort());
      environment[variable] = `http://127.0.0.1:${port}/graphql`;
      const name = script.split("/").at(-2) ?? script;
      programs.push({ name, script, args: [], environment: { SLAPGRAPH_SUBGRAPH_PORT: port } });
    }
    for (const name of ["slap", "gateway"])
      programs.push({ name, script: `${name}/main.js`, args: [], environment: {} });
    return new RunningSystem(dataDir, environment, programs, postgres);
  }

  get adminToken(): string {
    return (
      this.#environment.SLAPGRAPH_ADMIN_TOKEN ?? readFileSync(path.join(this.dataDir, "admin-token"), "utf8").trim()
    );
  }

  /** Apart, where each subgraph listens, by its name. */
  get subgraphUrls(): Map<string, string> {
    const variable = /^SLAPGRAPH_(IDENTITY|CATALOG|COMPUTER|MONITORING|SHACACHE)(_SUBGRAPH)?_URL$/;
    return new Map(
      Object.entries(this.#environment).flatMap(([name, url]) => {
        const subgraph = variable.exec(name)?.[1]?.toLowerCase();
        return subgraph === undefined ? [] : [[subgraph, url.replace(/\/graphql$/, "")]];
      }),
    );
  }

  /** The processes that it is made of, by name. */
  get services(): string[] {
    return this.#programs.map(({ name }) => name);
  }

  /** The processes that run now, without the database's. */
  get pids(): number[] {
    return [...this.#children.values()].filter(isRunning).map((child) => child.pid as number);
  }

  pidOf(service: string): number {
    return this.#children.get(service)?.pid ?? 0;
  }

  /** The postmaster's process id, whoever started it. */
  get postgresPid(): number {
    return this.#postgres?.pid ?? Number(this.#postmasterFile[0]);
  }

  get databaseUrl(): string {
    if (this.#postgres) return this.#postgres.url;
    const password = readFileSync(path.join(this.dataDir, "postgres-password"), "utf8").trim();
    return `postgres://slapgraph:${encodeURIComponent(password)}@127.0.0.1:${this.#postmasterFile[3]}/slapgraph`;
  }

  get #postmasterFile(): string[] {
    return readFileSync(path.join(this.dataDir, "postgres", "postmaster.pid"), "utf8").split("\n");
  }

  get output(): string {
    return this.#output;
  }

  /** Starts what does not run, and waits until every door is ready. */
  async start(): Promise<void> {
    this.spawn();
    await this.untilReady();
  }

  /** Starts what does not run. */
  spawn(): void {
    const keep = (chunk: Buffer) => {
      this.#output = (this.#output + chunk.toString("utf8")).slice(-200_000);
    };
    for (const { name, script, args, environment } of this.#programs) {
      const known = this.#children.get(name);
      if (known && isRunning(known)) continue;
      const env = { ...this.#environment, ...environment };
      const child = spawn(process.execPath, [built(script), ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
      child.stdout.on("data", keep);
      child.stderr.on("data", keep);
      this.#children.set(name, child);
    }
  }

  async untilReady(): Promise<void> {
    const subgraphs = this.#programs.flatMap(({ environment }) =>
      environment.SLAPGRAPH_SUBGRAPH_PORT
        ? [`http://${environment.SLAPGRAPH_SUBGRAPH_HOST ?? "127.0.0.1"}:${environment.SLAPGRAPH_SUBGRAPH_PORT}`]
        : [],
    );
    for (const url of [this.gatewayUrl, this.slapUrl, this.shacacheUrl, ...subgraphs]) await this.#untilReady(url);
  }

  async #untilReady(url: string): Promise<void> {
    await waitFor(
      async () => {
        const ended = [...this.#children.values()].find((child) => !isRunning(child));
        if (ended) throw new Error(`${ended.spawnargs.join(" ")} ended with code ${ended.exitCode}:\n${this.#output}`);
        return fetch(`${url}/readyz`).then(
          (response) => response.status,
          () => 0,
        );
      },
      { until: (status) => status === 200, timeoutMs: startTimeoutMs, what: `readiness of ${url}` },
    );
  }

  /** Ends it, or one service of it, as a power cut would, and waits until it is gone. */
  async kill(service?: string): Promise<void> {
    await this.#end("SIGKILL", service);
  }

  /** Ends it as an operator would; the processes' exit codes. */
  async stop(service?: string): Promise<(number | null)[]> {
    return this.#end("SIGTERM", service);
  }

  async close(): Promise<void> {
    await this.stop();
    await this.#postgres?.stop();
    await this.#minio?.close();
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
      const requestId = response.headers.get("x-request-id");
      throw new Error(
        `GraphQL: ${query} ${JSON.stringify(variables)}\n${text}\nrequest ${requestId}\n${this.#output.slice(-3000)}`,
      );
    }
    return result.data;
  }

  #end(signal: NodeJS.Signals, service?: string): Promise<(number | null)[]> {
    const ending = [...this.#children].filter(([name]) => service === undefined || name === service);
    return Promise.all(
      ending.map(([, child]) => {
        if (!isRunning(child)) return child.exitCode;
        const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
        child.kill(signal);
        return exited;
      }),
    );
  }
}

function isRunning(child: ChildProcess): boolean {
  return child.exitCode === null && child.signalCode === null;
}
