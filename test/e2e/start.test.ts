import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../common/embedded-postgres.js";
import { RunningSystem } from "../support/running-system.js";
import { waitFor } from "../support/wait-for.js";

const root = path.resolve(import.meta.dirname, "../..");
const command = path.join(root, "dist/cli/slapgraph.js");
const folders: string[] = [];

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A start that is expected to fail: its exit code and what it said. */
async function startAndFail(environment: Record<string, string>): Promise<{ code: number | null; said: string }> {
  const folder = mkdtempSync("/tmp/sg-start-");
  folders.push(folder);
  const child = spawn(process.execPath, [command, "start"], {
    env: {
      PATH: process.env.PATH ?? "",
      SLAPGRAPH_DATA_DIR: folder,
      SLAPGRAPH_GATEWAY_PORT: "0",
      SLAPGRAPH_SLAP_PORT: "0",
      SLAPGRAPH_SHACACHE_PORT: "0",
      SLAPGRAPH_LOG_LEVEL: "silent",
      ...environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  child.stdout.on("data", (chunk) => {
    said += chunk;
  });
  child.stderr.on("data", (chunk) => {
    said += chunk;
  });
  const code = await new Promise<number | null>((resolve) => child.once("exit", resolve));
  return { code, said };
}

describe("a start that cannot work ends with a sentence and a non-zero exit", () => {
  test("a wrong variable, named with what it accepts", async () => {
    const { code, said } = await startAndFail({ SLAPGRAPH_GATEWAY_PORT: "99999", SLAPGRAPH_LOG_LEVEL: "loud" });
    expect(code).toBe(1);
    expect(said).toContain("SLAPGRAPH_GATEWAY_PORT is wrong: it accepts a port number");
    expect(said).toContain("SLAPGRAPH_LOG_LEVEL is wrong: it accepts one of trace");
    expect(said).not.toContain("    at ");
  });

  test("a database that does not answer", async () => {
    const { code, said } = await startAndFail({
      DATABASE_URL: `postgres://nobody:nothing@127.0.0.1:${await freePort()}/none`,
    });
    expect(code).toBe(1);
    expect(said).toContain("DATABASE_URL");
    expect(said).not.toContain("nothing");
    expect(said).not.toContain("    at ");
  });

  test.each([
    ["admin-token", "\n", "holds no token"],
    ["signing-keys.json", '{"keys":[]}', "is not a JSON Web Key set"],
  ])("a secret that is none: %s", async (name, text, problem) => {
    const folder = mkdtempSync("/tmp/sg-start-");
    folders.push(folder);
    chmodSync(folder, 0o755);
    writeFileSync(path.join(folder, name), text, { mode: 0o600 });
    const { code, said } = await startAndFail({ SLAPGRAPH_DATA_DIR: folder });
    expect(code).toBe(1);
    expect(said).toContain(`${name} ${problem}`);
    expect(said).not.toContain("    at ");
  });

  test("an S3 that does not answer", async () => {
    const environment = {
      S3_ENDPOINT: `http://127.0.0.1:${await freePort()}`,
      S3_ACCESS_KEY: "key",
      S3_SECRET_KEY: "secret",
    };
    const { code, said } = await startAndFail(environment);
    expect(code).toBe(1);
    expect(said).toContain("S3_ENDPOINT");
    expect(said).not.toContain("    at ");
  });

  test("a busy port, and what was opened before it is closed again", async () => {
    const busy = net.createServer();
    await new Promise<void>((resolve) => busy.listen(0, "127.0.0.1", resolve));
    const { port } = busy.address() as net.AddressInfo;
    const { code, said } = await startAndFail({ SLAPGRAPH_GATEWAY_PORT: String(port) });
    busy.close();
    expect(code).toBe(1);
    expect(said).toContain(`SLAPGRAPH_GATEWAY_PORT: port ${port} on 127.0.0.1 is in use`);
  });
});

describe("a running system", () => {
  let system: RunningSystem;

  beforeAll(async () => {
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" });
  });

  afterAll(() => system.close());

  test("is the only one on its data dir", async () => {
    const { code, said } = await startAndFail({ SLAPGRAPH_DATA_DIR: system.dataDir });
    expect(code).toBe(1);
    expect(said).toContain("already runs on the data dir");
    expect(await system.graphql("{ projects(first: 1) { edges { node { name } } } }")).toBeTruthy();
  });

  test("keeps its token and keys closed to others", () => {
    expect(readdirSync(system.dataDir)).toContain("admin-token");
    expect(system.adminToken).toMatch(/^sg_/);
  });

  test("survives SIGKILL: it starts again on the same data, its database with it, and tokens stay good", async () => {
    const { createComputer } = await system.graphql<{ createComputer: { credential: string } }>(
      `mutation { createComputer(input: { reference: "KEPT" }) { credential } }`,
    );
    for (let turn = 0; turn < 3; turn++) {
      await system.kill();
      await system.start();
      const { computer } = await system.graphql<{ computer: { reference: string } }>(
        `{ computer(reference: "KEPT") { reference } }`,
        {},
        createComputer.credential,
      );
      expect(computer).toEqual({ reference: "KEPT" });
    }
  });

  test("leaves no database behind when it is killed for good", async () => {
    await system.kill();
    await waitFor(
      async () => {
        const listing = await new Promise<string>((resolve) => {
          const ps = spawn("ps", ["-eo", "args"], { stdio: ["ignore", "pipe", "ignore"] });
          let text = "";
          ps.stdout.on("data", (chunk) => {
            text += chunk;
          });
          ps.once("close", () => resolve(text));
        });
        return listing.split("\n").filter((line) => line.includes(`-D ${system.dataDir}`)).length;
      },
      { until: (count) => count === 0, what: "the end of the database" },
    );
    await system.start();
  });

  test("ends on SIGTERM with code 0, with clients connected", async () => {
    const stream = await fetch(`${system.gatewayUrl}/graphql`, {
      method: "POST",
      headers: {
        accept: "text/event-stream",
        "content-type": "application/json",
        authorization: `Bearer ${system.adminToken}`,
      },
      body: JSON.stringify({ query: "subscription { partitionStateChanged { cursor } }" }),
    });
    await stream.body?.getReader().read();
    expect(await system.stop()).toEqual([0]);
    await system.start();
  });
});

/** Starts by a command of the README's and stops the process that was started, as a supervisor does. */
async function startAndTerminate(program: string, args: string[]): Promise<{ code: number | null; isGone: boolean }> {
  const folder = mkdtempSync("/tmp/sg-start-");
  folders.push(folder);
  chmodSync(folder, 0o755);
  const port = await freePort();
  const child = spawn(program, args, {
    cwd: root,
    env: {
      PATH: process.env.PATH ?? "",
      SLAPGRAPH_DATA_DIR: folder,
      SLAPGRAPH_GATEWAY_PORT: String(port),
      SLAPGRAPH_SLAP_PORT: "0",
      SLAPGRAPH_SHACACHE_PORT: "0",
      SLAPGRAPH_LOG_LEVEL: "silent",
    },
    stdio: "ignore",
  });
  const answers = (wanted: boolean) =>
    waitFor(async () => (await fetch(`http://127.0.0.1:${port}/livez`).catch(() => null)) !== null, {
      until: (answered) => answered === wanted,
      what: wanted ? "an answer" : "the end of the doors",
      timeoutMs: 60_000,
    });
  await answers(true);
  const code = new Promise<number | null>((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  const ended = await code;
  const isGone = await answers(false).then(() => true);
  return { code: ended, isGone };
}

describe("SIGTERM to the process that was started ends the system", () => {
  test("where it was the command, whichever Node runs it", async () => {
    const [node] = execFileSync("which", ["-a", "node"], { encoding: "utf8" }).trim().split("\n").slice(-1);
    expect(await startAndTerminate(node ?? "node", ["bin/slapgraph.js", "start"])).toEqual({ code: 0, isGone: true });
  });

  test("where it was `npm start`, whose signal ends at the shell of its script", async () => {
    const { scripts } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
    // What is built is there, and others read it at this moment.
    const script = scripts.start.replace("npm run --silent build", "true");
    expect(await startAndTerminate("sh", ["-c", script])).toEqual({ code: 0, isGone: true });
  });
});
