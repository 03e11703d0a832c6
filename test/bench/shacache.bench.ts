import { Worker } from "node:worker_threads";
import { pythonToolchain } from "../support/toolchain.js";
import { median, printRow, say } from "./report.js";
import {
  adminToken,
  type BlobServer,
  digestOf,
  newBlob,
  startCeiling,
  startMinioDirect,
  startNginx,
  startOurs,
  startUpstream,
  usageOf,
} from "./shacache-servers.js";
import { download, getOverAndOver, upload } from "./transfer.js";

const rounds = Number(process.env.BENCH_ROUNDS ?? 5);
const largeBytes = 64 * 1024 * 1024;
const mebibyte = 1024 * 1024;
const smallBytes = 4096;
const seconds = 1;

const secondsOf = async (work: () => Promise<unknown>) => {
  const startedAt = performance.now();
  await work();
  return (performance.now() - startedAt) / 1000;
};

/** Each server in turn, round by round, so that a machine that gets slower does so for all. The medians, by server. */
async function inTurn(servers: BlobServer[], measure: (server: BlobServer) => Promise<number>) {
  const figures = new Map<string, number[]>(servers.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (const server of servers) figures.get(server.name)?.push(await measure(server));
  return (name: string) => median(figures.get(name) ?? []);
}

/** MiB a second of one GET after the other. */
const reading = (sha512: string) => async (server: BlobServer) => {
  const target = await server.download(sha512);
  return (
    256 /
    (await secondsOf(async () => {
      for (let count = 0; count < 4; count++) await download(target, largeBytes);
    }))
  );
};

/** MiB a second of uploads of new bytes, one after the other. */
const writing = async (server: BlobServer) => {
  const blob = newBlob(largeBytes);
  return (
    128 /
    (await secondsOf(async () => {
      for (let count = 0; count < 2; count++) {
        blob.writeUInt32LE(Math.floor(Math.random() * 2 ** 32), count);
        await server.upload(blob);
      }
    }))
  );
};

/** 4 KiB GETs a second, eight at a time, each on a connection of its own. */
const readingAnew = (sha512: string) => async (server: BlobServer) => {
  const target = await server.download(sha512);
  const endsAt = performance.now() + seconds * 1000;
  let count = 0;
  const client = async () => {
    for (; performance.now() < endsAt; count++) await download(target, smallBytes);
  };
  const elapsed = await secondsOf(() => Promise.all(Array.from({ length: 8 }, client)));
  return count / elapsed;
};

/** 4 KiB GETs a second on 16 kept connections. */
const readingKept = (sha512: string) => async (server: BlobServer) => {
  const target = await server.download(sha512);
  const counts = await Promise.all(Array.from({ length: 16 }, () => getOverAndOver(target, seconds)));
  return counts.reduce((sum, count) => sum + count, 0) / seconds;
};

let entries = 0;
const entry = (n: number) => Buffer.from(JSON.stringify([JSON.stringify({ sha512: "0".repeat(128), n }), ""]));

const writingEntries = async ({ directory }: BlobServer) => {
  const endsAt = performance.now() + seconds * 1000;
  let count = 0;
  const client = async () => {
    for (; performance.now() < endsAt; count++) {
      const n = ++entries;
      if (directory) await upload("PUT", directory.write(`key-${n}`), entry(n), "application/json");
    }
  };
  const elapsed = await secondsOf(() => Promise.all(Array.from({ length: 8 }, client)));
  return count / elapsed;
};

const readingEntries = async ({ directory }: BlobServer) => {
  if (!directory) return 0;
  const target = directory.read("read");
  const endsAt = performance.now() + seconds * 1000;
  let count = 0;
  const client = async () => {
    for (; performance.now() < endsAt; count++) await download(target, null);
  };
  const elapsed = await secondsOf(() => Promise.all(Array.from({ length: 8 }, client)));
  return count / elapsed;
};

/** What 256 MiB up and 256 MiB down cost a server. */
async function costOf(server: BlobServer, sha512: string): Promise<string> {
  const before = usageOf(server.pids).cpuSeconds;
  const blob = newBlob(largeBytes);
  for (let count = 0; count < 4; count++) {
    blob.writeUInt32LE(count, 0);
    await server.upload(blob);
  }
  const afterWrites = usageOf(server.pids).cpuSeconds;
  const target = await server.download(sha512);
  for (let count = 0; count < 4; count++) await download(target, largeBytes);
  const { cpuSeconds, peakBytes } = usageOf(server.pids);
  const perGb = (used: number) => (used / ((4 * largeBytes) / 1e9)).toFixed(2);
  const peak = Math.round(peakBytes / mebibyte);
  return `${server.name.padEnd(16)} CPU s per GB: up ${perGb(afterWrites - before)}, down ${perGb(cpuSeconds - afterWrites)}; peak RSS ${peak} MiB`;
}

/** The 99th percentile of a query's time in ms, over some seconds, one after the other. */
async function queryTime(gatewayUrl: string, forSeconds: number): Promise<number> {
  const times: number[] = [];
  const endsAt = performance.now() + forSeconds * 1000;
  while (performance.now() < endsAt) {
    const taken = await secondsOf(async () => {
      const response = await fetch(`${gatewayUrl}/graphql`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${adminToken}` },
        body: JSON.stringify({ query: "{ projects(first: 10) { edges { node { name } } } }" }),
      });
      if (response.status !== 200) throw new Error(`the query answered ${response.status}`);
      await response.arrayBuffer();
    });
    times.push(taken * 1000);
  }
  times.sort((a, b) => a - b);
  return times[Math.floor(times.length * 0.99)] ?? 0;
}

export async function run(): Promise<void> {
  const ours = await startOurs();
  const minio = await startMinioDirect();
  const onMinio = minio && (await startOurs(minio.environment));
  const nginx = await startNginx();
  const toolchain = await pythonToolchain();
  const upstream = "missing" in toolchain ? null : await startUpstream(toolchain);
  const ceiling = await startCeiling();
  for (const [name, peer] of [
    ["nginx", nginx],
    ["MinIO", minio],
    ["slapos.core", upstream],
  ] as const)
    if (peer === null) say(`${name} is missing on this machine: its rows are left out.`);
  const all = [ours, minio, onMinio, nginx, upstream, ceiling].filter((one) => one !== null);

  const large = newBlob(largeBytes);
  const small = newBlob(smallBytes);
  for (const server of all) for (const blob of [large, small]) await server.upload(blob);
  const row = (
    work: string,
    figures: (name: string) => number,
    of: BlobServer | null,
    peer: BlobServer | null,
    goal: number,
  ) => {
    if (of && peer) printRow({ work, ours: figures(of.name), peer: figures(peer.name), peerName: peer.name, goal });
  };

  const read = await inTurn(
    all.filter((one) => one !== ceiling),
    reading(digestOf(large)),
  );
  row("GET 64 MiB, files, MiB", read, ours, nginx, 0.85);
  row("GET 64 MiB, MinIO, MiB", read, onMinio, minio, 0.85);
  row("GET 64 MiB, files, MiB (no goal)", read, ours, upstream, 0);

  const write = await inTurn(
    all.filter((one) => one !== nginx),
    writing,
  );
  row("POST 64 MiB, files, MiB", write, ours, ceiling, 0.9);
  row("POST 64 MiB, MinIO, MiB", write, onMinio, minio, 0.8);
  row("POST 64 MiB, files, MiB (no goal)", write, ours, upstream, 0);

  const anew = await inTurn(
    all.filter((one) => one === ours || one === upstream || one === ceiling),
    readingAnew(digestOf(small)),
  );
  row("GET 4 KiB, a new connection each", anew, ours, upstream, 5);
  row("GET 4 KiB, a new connection each", anew, ours, ceiling, 0.5);

  const kept = await inTurn(
    all.filter((one) => one === ours || one === minio || one === ceiling || one === onMinio),
    readingKept(digestOf(small)),
  );
  row("GET 4 KiB, 16 kept connections", kept, ours, minio, 3);
  row("GET 4 KiB, 16 kept connections", kept, ours, ceiling, 0.5);
  row("GET 4 KiB, 16 kept connections, from MinIO (no goal)", kept, onMinio, minio, 0);

  const directories = [ours, upstream].filter((one) => one !== null);
  for (const { directory } of directories)
    if (directory) await upload("PUT", directory.write("read"), entry(0), "application/json");
  const readEntries = await inTurn(directories, readingEntries);
  row("directory read", readEntries, ours, upstream, 5);
  const writeEntries = await inTurn(directories, writingEntries);
  row("directory write", writeEntries, ours, upstream, 5);

  for (const server of all) if (server !== nginx && server !== ceiling) say(await costOf(server, digestOf(large)));

  const idle = await queryTime(ours.system.gatewayUrl, 5);
  // In a thread of their own: one that sends as fast as it can would measure its own waiting.
  const uploads = new Worker(new URL("./uploads.worker.js", import.meta.url), {
    workerData: { url: `${ours.system.shacacheUrl}/k/${adminToken}/shacache`, sizeBytes: largeBytes },
  });
  const failed = new Promise<never>((_, reject) => uploads.once("error", reject));
  const busy = await Promise.race([queryTime(ours.system.gatewayUrl, 8), failed]);
  await uploads.terminate();
  const verdict = busy <= 3 * idle ? "met" : "MISSED";
  say(
    `p99 of a query: idle ${idle.toFixed(1)} ms, while 8 uploads run ${busy.toFixed(1)} ms: ${(busy / idle).toFixed(1)} ×, goal at most 3: ${verdict}`,
  );
}
