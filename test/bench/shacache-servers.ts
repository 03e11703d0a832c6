import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { freePort } from "../../common/embedded-postgres.js";
import { s3ClientOf, startMinio } from "../support/minio-server.js";
import { RunningSystem } from "../support/running-system.js";
import { minioBinary, type PythonToolchain } from "../support/toolchain.js";
import { waitFor } from "../support/wait-for.js";
import { endAfterwards } from "./report.js";
import { type Target, upload } from "./transfer.js";

export interface BlobServer {
  name: string;
  pids: number[];
  /** Where a blob that was given to it is read. */
  download(sha512: string): Promise<Target>;
  upload(bytes: Buffer): Promise<void>;
  directory?: { read(key: string): Target; write(key: string): Target };
}

export const adminToken = "administrator-of-the-bench";
export const digestOf = (bytes: Buffer) => createHash("sha512").update(bytes).digest("hex");

/** In memory where the machine has such a folder, because the goals are about page cache and not about this machine's disk. */
export function newFolder(): string {
  const parent = process.env.BENCH_FOLDER ?? (existsSync("/dev/shm") ? "/dev/shm" : "/tmp");
  const folder = mkdtempSync(`${parent}/sb-`);
  chmodSync(folder, 0o755);
  endAfterwards(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

function start(command: string, args: string[], options: { uid?: number; gid?: number } = {}): ChildProcess {
  const child = spawn(command, args, { ...options, stdio: ["ignore", "ignore", "inherit"], cwd: "/tmp" });
  endAfterwards(async () => {
    if (child.exitCode !== null) return;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await exited;
  });
  return child;
}

async function untilAnswers(url: string): Promise<void> {
  const ask = () =>
    fetch(url).then(
      ({ status }) => status,
      () => 0,
    );
  await waitFor(ask, { until: (status) => status !== 0, timeoutMs: 20_000, what: url });
}

export async function startOurs(s3: Record<string, string> = {}): Promise<BlobServer & { system: RunningSystem }> {
  const system = await RunningSystem.start({
    SLAPGRAPH_DATA_DIR: newFolder(),
    SLAPGRAPH_ADMIN_TOKEN: adminToken,
    SLAPGRAPH_LOG_LEVEL: "error",
    ...s3,
  });
  endAfterwards(() => system.close());
  const write = `${system.shacacheUrl}/k/${adminToken}`;
  return {
    name: Object.keys(s3).length > 0 ? "ours on MinIO" : "ours",
    system,
    pids: system.pids,
    download: async (sha512) => ({ url: `${system.shacacheUrl}/shacache/${sha512}` }),
    upload: (bytes) => upload("POST", { url: `${write}/shacache` }, bytes),
    directory: {
      read: (key) => ({ url: `${system.shacacheUrl}/shadir/${key}` }),
      write: (key) => ({ url: `${write}/shadir/${key}` }),
    },
  };
}

export async function startMinioDirect(): Promise<(BlobServer & { environment: Record<string, string> }) | null> {
  const found = await minioBinary();
  if ("missing" in found) return null;
  const server = await startMinio(found.binary, { parent: newFolder() });
  endAfterwards(() => server.close());
  const { accessKey, secretKey } = server;
  const client = s3ClientOf(server);
  await client.makeBucket("direct");
  return {
    name: "MinIO direct",
    pids: [server.pid],
    environment: { S3_ENDPOINT: server.endpoint, S3_ACCESS_KEY: accessKey, S3_SECRET_KEY: secretKey },
    download: async (sha512) => ({ url: await client.presignedGetObject("direct", sha512) }),
    upload: async (bytes) => upload("PUT", { url: await client.presignedPutObject("direct", digestOf(bytes)) }, bytes),
  };
}

/** The same file sent by a server that does nothing else. */
export async function startNginx(): Promise<BlobServer | null> {
  const binary = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"].find((file) => existsSync(file));
  if (binary === undefined) return null;
  const folder = newFolder();
  const port = await freePort();
  writeFileSync(
    path.join(folder, "nginx.conf"),
    `daemon off; master_process off; error_log stderr crit; pid ${folder}/pid; events {}
     http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2;
       fastcgi_temp_path ${folder}/t3; uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5;
       server { listen 127.0.0.1:${port}; root ${folder}; } }`,
  );
  const child = start(binary, ["-c", path.join(folder, "nginx.conf"), "-p", folder]);
  await untilAnswers(`http://127.0.0.1:${port}/`);
  return {
    name: "nginx",
    pids: [child.pid ?? 0],
    download: async (sha512) => ({ url: `http://127.0.0.1:${port}/${sha512}` }),
    upload: async (bytes) => writeFileSync(path.join(folder, digestOf(bytes)), bytes),
  };
}

/** slapos.core's own server, as `slapos proxy` runs it. */
export async function startUpstream(toolchain: PythonToolchain): Promise<BlobServer> {
  const folder = newFolder();
  const port = await freePort();
  const source = `
import logging, sys, os
from flask import Flask
from slapos.proxy.shacache_proxy import shacache_proxy_blueprint
logging.getLogger("werkzeug").disabled = True
app = Flask("shacache")
app.config.update(SHACACHE_CONTENT_DIRECTORY=sys.argv[1], SHACACHE_METADATA_DIRECTORY=os.path.join(sys.argv[1], "metadata"))
app.register_blueprint(shacache_proxy_blueprint, url_prefix="/shacache")
app.run(host="127.0.0.1", port=int(sys.argv[2]), threaded=True)`;
  const child = start(toolchain.python, ["-W", "ignore", "-c", source, folder, String(port)]);
  const url = `http://127.0.0.1:${port}/shacache`;
  await untilAnswers(url);
  return {
    name: "slapos.core",
    pids: [child.pid ?? 0],
    download: async (sha512) => ({ url: `${url}/cache/${sha512}` }),
    upload: (bytes) => upload("POST", { url: `${url}/cache` }, bytes),
    directory: { read: (key) => ({ url: `${url}/dir/${key}` }), write: (key) => ({ url: `${url}/dir/${key}` }) },
  };
}

/** What no server in Node can be faster than: one that hashes what comes and keeps nothing, and sends what it has in memory. */
export async function startCeiling(): Promise<BlobServer> {
  const port = await freePort();
  const source = `
    const { createServer } = require("node:http");
    const { createHash } = require("node:crypto");
    const small = Buffer.alloc(4096, 1);
    createServer((request, response) => {
      if (request.method === "GET") {
        response.writeHead(200, { "content-type": "application/octet-stream", "content-length": small.length });
        return response.end(small);
      }
      const hash = createHash("sha512");
      request.on("data", (bytes) => hash.update(bytes));
      request.on("end", () => response.writeHead(201).end(hash.digest("hex")));
    }).listen(${port}, "127.0.0.1");`;
  const child = start(process.execPath, ["-e", source]);
  const url = `http://127.0.0.1:${port}/`;
  await untilAnswers(url);
  return {
    name: "bare node:http",
    pids: [child.pid ?? 0],
    download: async () => ({ url }),
    upload: (bytes) => upload("POST", { url }, bytes),
  };
}

/** CPU seconds that processes have used since they began, and the most memory that they had together, in bytes. */
export function usageOf(pids: readonly number[]): { cpuSeconds: number; peakBytes: number } {
  let ticks = 0;
  let peakKilobytes = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
    peakKilobytes += Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  }
  return { cpuSeconds: ticks / 100, peakBytes: peakKilobytes * 1024 };
}

export const newBlob = (sizeBytes: number) => randomBytes(sizeBytes);
