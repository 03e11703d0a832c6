import { setTimeout as delay } from "node:timers/promises";
import { readRows } from "./ledger.js";
import { Load } from "./load.js";
import { type MinioServer, startMinio } from "./minio-server.js";
import { findStrays } from "./process-table.js";
import { type Deviations, ResumingSubscriber } from "./resuming-subscriber.js";
import { RunningSystem, type Wiring } from "./running-system.js";
import { waitFor } from "./wait-for.js";

export interface KillRunOptions {
  wiring: Wiring;
  count: number;
  /** The MinIO to keep blobs in; without it they are files. */
  minioBinary: string | null;
  computerCount?: number;
  say?: (line: string) => void;
}

export interface KillReport extends Deviations {
  kills: number;
  acknowledged: number;
  events: number;
  resumed: number;
  /** Writes that were answered with success and are not there. */
  lost: string[];
  /** Answers and stream errors that say something else than "try again". */
  faults: string[];
  /** Processes, locks and transactions that a kill left behind, and consumers that did not go on. */
  left: string[];
  slowestRecoveryMs: number;
}

const loadMs = { least: 300, more: 1_200 };
const settleTimeoutMs = 30_000;
/** A consumer that nothing concerned may not have kept its place for so many positions. */
const keptLag = 200;

/** Kills parts of a system under load, one after another, and looks after each whether anything that counts was lost. */
export async function runKills(options: KillRunOptions): Promise<KillReport> {
  const { wiring, count, minioBinary, computerCount = 2, say = () => undefined } = options;
  const minio = minioBinary === null ? null : await startMinio(minioBinary);
  const s3 = minio && {
    S3_ENDPOINT: minio.endpoint,
    S3_ACCESS_KEY: minio.accessKey,
    S3_SECRET_KEY: minio.secretKey,
    S3_BUCKET: minio.bucket,
  };
  const system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "warn", ...s3 }, wiring);
  const subscribers: ResumingSubscriber[] = [];
  let load: Load | undefined;
  try {
    for (const transport of ["WebSocket", "WebSocket", "SSE", "SSE"] as const)
      subscribers.push(new ResumingSubscriber(system, transport));
    await Promise.all(subscribers.map((subscriber) => subscriber.open()));
    load = await Load.prepare(system, computerCount);
    load.start();
    const report: KillReport = {
      kills: 0,
      acknowledged: 0,
      events: 0,
      resumed: 0,
      lost: [],
      gaps: 0,
      repeated: 0,
      disordered: 0,
      faults: [],
      left: [],
      slowestRecoveryMs: 0,
    };
    const kinds = killsOf(system, minio);
    for (let number = 0; number < count; number++) {
      await delay(loadMs.least + Math.random() * loadMs.more);
      const kind = kinds[number % kinds.length] as Kill;
      const startedAt = performance.now();
      await kind.kill();
      await system.untilReady();
      const recoveryMs = Math.round(performance.now() - startedAt);
      load.pause();
      report.kills++;
      report.slowestRecoveryMs = Math.max(report.slowestRecoveryMs, recoveryMs);
      report.lost.push(...(await load.ledger.findLost(system)));
      report.left.push(...(await findLeft(system, minio)));
      Object.assign(report, await compareAll(subscribers, system));
      load.resume();
      say(`${report.kills}. ${kind.name}: ready after ${recoveryMs} ms, ${load.ledger.size} writes acknowledged`);
    }
    await load.stop();
    report.lost.push(...(await load.ledger.findLost(system, { everything: true })));
    Object.assign(report, await compareAll(subscribers, system));
    report.faults.push(...load.faults, ...subscribers.flatMap((subscriber) => subscriber.faults));
    report.acknowledged = load.ledger.size;
    report.resumed = subscribers.reduce((sum, { resumed }) => sum + resumed, 0);
    const [row] = await readRows<{ count: string }>(
      system.databaseUrl,
      "select count(*) as count from event_log.event",
    );
    report.events = Number(row?.count);
    return report;
  } catch (error) {
    say(system.output.slice(-5_000));
    throw error;
  } finally {
    await load?.stop();
    await Promise.all(subscribers.map((subscriber) => subscriber.stop()));
    await system.close();
    await minio?.close();
  }
}

interface Kill {
  name: string;
  /** Ends something at once, and starts again what does not start itself: as a supervisor would. */
  kill(): Promise<void>;
}

function killsOf(system: RunningSystem, minio: MinioServer | null): Kill[] {
  const restarted = async () => {
    await postgresAnswers(system);
    system.spawn();
  };
  const whole: Kill = {
    name: "the whole",
    kill: async () => {
      await system.kill();
      await restarted();
    },
  };
  const wholeAtItsStart: Kill = {
    name: "the whole, and again while it starts",
    kill: async () => {
      await system.kill();
      await restarted();
      await delay(200 + Math.random() * 2_000);
      await system.kill();
      await restarted();
    },
  };
  const postgres: Kill = {
    name: "PostgreSQL",
    kill: async () => {
      const pid = system.postgresPid;
      process.kill(pid, "SIGKILL");
      // A new postmaster is somebody else's work: the system's own in one process, a supervisor's apart.
      await waitFor(() => newPostgres(system, pid), { timeoutMs: settleTimeoutMs, what: "a new postmaster" });
    },
  };
  const backend: Kill = {
    name: "one backend of PostgreSQL",
    kill: async () => {
      const [row] = await readRows<{ pid: number }>(
        system.databaseUrl,
        "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit 1",
      );
      if (row) process.kill(row.pid, "SIGKILL");
      await postgresAnswers(system);
    },
  };
  const stores: Kill[] = minio
    ? [
        {
          name: "MinIO",
          kill: async () => {
            await minio.kill();
            await delay(Math.random() * 1_000);
            await minio.start();
          },
        },
      ]
    : [];
  const services = system.services.map((name) => ({
    name,
    kill: async () => {
      await system.kill(name);
      system.spawn();
    },
  }));
  const shared = [postgres, ...stores, whole, backend, wholeAtItsStart];
  return services.length > 1 ? [...services, ...shared] : shared;
}

function newPostgres(system: RunningSystem, oldPid: number): boolean {
  try {
    return system.postgresPid !== oldPid && Number.isInteger(system.postgresPid);
  } catch {
    // Its pid file is away between the two.
    return false;
  }
}

/** Apart, services that start without their database end with a sentence, and it is the supervisor's to wait. */
async function postgresAnswers(system: RunningSystem): Promise<void> {
  if (system.services.length === 1) return;
  await waitFor(() => readRows(system.databaseUrl, "select 1").then(Boolean, () => false), {
    timeoutMs: settleTimeoutMs,
    what: "PostgreSQL",
  });
}

/** Each comparison is of the whole streams, so the last one counts. */
async function compareAll(subscribers: ResumingSubscriber[], system: RunningSystem): Promise<Deviations> {
  const all = await Promise.all(subscribers.map((subscriber) => subscriber.compare(system.databaseUrl)));
  const total: Deviations = { gaps: 0, repeated: 0, disordered: 0 };
  for (const one of all) addDeviations(total, one);
  return total;
}

function addDeviations(sum: Deviations, { gaps, repeated, disordered }: Deviations): void {
  sum.gaps += gaps;
  sum.repeated += repeated;
  sum.disordered += disordered;
}

/** What is still there some time after a kill and should not be: each by a sentence. */
async function findLeft(system: RunningSystem, minio: MinioServer | null): Promise<string[]> {
  const roots = () => [...system.pids, system.postgresPid, ...(minio ? [minio.pid] : [])];
  const settle = async (what: string, find: () => Promise<string[]>) => {
    let last: string[] = [];
    await waitFor(
      async () => {
        last = await find();
        return last.length;
      },
      { until: (count) => count === 0, timeoutMs: settleTimeoutMs },
    ).catch(() => undefined);
    return last.map((one) => `${what}: ${one}`);
  };
  const held = `select a.pid, a.state, left(a.query, 80) as query from pg_stat_activity a
    where a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
      and (a.xact_start < now() - interval '5 s'
        or a.state_change < now() - interval '5 s' and exists (select from pg_locks l where l.pid = a.pid and l.locktype = 'advisory'))`;
  const [row] = await readRows<{ last: string }>(
    system.databaseUrl,
    "select max(position) as last from event_log.event",
  );
  return [
    ...(await settle("stray process", async () => findStrays(system.dataDir, roots()))),
    ...(await settle("held lock", async () =>
      (await readRows<object>(system.databaseUrl, held)).map((one) => JSON.stringify(one)),
    )),
    ...(await settle("consumer behind", async () =>
      (
        await readRows<{ name: string }>(
          system.databaseUrl,
          "select name from event_log.consumer where position < $1",
          [Number(row?.last ?? 0) - keptLag],
        )
      ).map(({ name }) => name),
    )),
  ];
}
