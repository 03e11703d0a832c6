import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { Client } from "pg";
import { type Config, ConfigError } from "../common/config.js";
import { compiledFolder, lockDataDir } from "../common/data-dir.js";
import { clusterSuperuser, systemUser } from "../common/postgres-cluster.js";
import { copyTree, sync } from "./copy-tree.js";

/** Written last: a folder without it is no backup. */
const manifestFile = "backup.json";
const formatVersion = 1;
/** By themselves, or not at all. */
const copiedApart = ["postgres", "blobs", compiledFolder];

export interface BackupResult {
  sizeBytes: number;
  /** Whether the system ran meanwhile. */
  isOnline: boolean;
}

/**
 * A copy of the data dir that restores to one moment: keys, embedded database, blobs. A system that runs goes on:
 * PostgreSQL is told that its files are being copied, and its log of the time is copied with them (its documentation calls
 * it the low-level API). Blobs come after the database, so that each that its index names is in the copy.
 */
export async function backup(config: Config, folder: string): Promise<BackupResult> {
  const { dataDir } = config;
  if (config.databaseUrl !== undefined)
    throw new ConfigError("DATABASE_URL is set: back that database up with pg_dump, and copy the data dir beside it.");
  if (!existsSync(path.join(dataDir, "postgres", "PG_VERSION")))
    throw new ConfigError(`There is nothing to back up: ${dataDir} holds no database.`);
  const inside = path.relative(dataDir, path.resolve(folder));
  if (!inside.startsWith("..") && !path.isAbsolute(inside))
    throw new ConfigError(`${folder} is in the data dir itself. Name a folder outside of it.`);
  if (existsSync(folder)) throw new ConfigError(`${folder} exists. Name a folder that does not.`);
  const unfinished = `${path.resolve(folder)}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true, mode: 0o700 });
  // What holds the lock is a system that runs; without one, none can start meanwhile.
  const lock = await lockDataDir(dataDir).catch((error) => {
    if (error instanceof ConfigError) return null;
    throw error;
  });
  const isOnline = lock === null;
  try {
    const database = path.join(dataDir, "postgres");
    const databaseCopy = path.join(unfinished, "postgres");
    let sizeBytes = await copyTree(dataDir, unfinished, { skip: (file) => copiedApart.includes(file) });
    sizeBytes += isOnline
      ? await copyRunningDatabase(dataDir, databaseCopy)
      : await copyTree(database, databaseCopy, { skip: isOfRun });
    sizeBytes += await copyTree(path.join(dataDir, "blobs"), path.join(unfinished, "blobs"));
    const manifest = { formatVersion, createdAt: new Date().toISOString(), sizeBytes, isOnline };
    await writeFile(path.join(unfinished, manifestFile), `${JSON.stringify(manifest, null, 2)}\n`, { flush: true });
    await sync(unfinished);
    await rename(unfinished, folder);
    return { sizeBytes, isOnline };
  } finally {
    await lock?.release();
    await rm(unfinished, { recursive: true, force: true });
  }
}

async function copyRunningDatabase(dataDir: string, to: string): Promise<number> {
  const from = path.join(dataDir, "postgres");
  const port = Number(readFileSync(path.join(from, "postmaster.pid"), "utf8").split("\n")[3]);
  const password = readFileSync(path.join(dataDir, "postgres-password"), "utf8").trim();
  const client = new Client({ host: "127.0.0.1", port, user: clusterSuperuser, password, database: "postgres" });
  await client.connect();
  try {
    // The slot keeps the log of the time from being recycled, and goes with this connection.
    await client.query("select pg_create_physical_replication_slot('slapgraph_backup', true, true)");
    await client.query("select pg_backup_start('slapgraph', true)");
    let sizeBytes = await copyTree(from, to, { skip: (file) => isOfRun(file) || file.startsWith("pg_wal/") });
    const { rows } = await client.query<{ labelfile: string }>("select labelfile from pg_backup_stop(false)");
    sizeBytes += await copyTree(path.join(from, "pg_wal"), path.join(to, "pg_wal"));
    // With its label a start recovers from the log, instead of taking the files for those of one moment.
    await writeFile(path.join(to, "backup_label"), rows[0]?.labelfile ?? "", { flush: true });
    return sizeBytes;
  } finally {
    await client.end();
  }
}

/** What only says that a server runs, or what it throws away at its start. The folders themselves have to be there. */
function isOfRun(file: string): boolean {
  return /^postmaster\.(pid|opts)$|^pg_(replslot|stat_tmp|notify|dynshmem|serial|snapshots|subtrans)\//.test(file);
}

/** Puts a backup in the place of a data dir that is absent or empty, all at once. */
export async function restore(config: Config, folder: string): Promise<void> {
  const { dataDir } = config;
  const manifest = path.join(folder, manifestFile);
  if (!existsSync(manifest)) throw new ConfigError(`${folder} is no whole backup: it has no ${manifestFile}.`);
  const written = (JSON.parse(readFileSync(manifest, "utf8")) as { formatVersion: number }).formatVersion;
  if (written !== formatVersion)
    throw new ConfigError(`${folder} has the form ${written}, and this version reads ${formatVersion}.`);
  const notEmpty = `${dataDir} is not empty. Move it away, or set SLAPGRAPH_DATA_DIR to another folder.`;
  if (existsSync(dataDir) && readdirSync(dataDir).length > 0) throw new ConfigError(notEmpty);
  const unfinished = `${dataDir}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  try {
    // The user that PostgreSQL runs as may have another number on this machine.
    const owner = process.getuid?.() === 0 ? systemUser() : undefined;
    await copyTree(folder, unfinished, { skip: (file) => file === "postgres" || file === manifestFile });
    await copyTree(path.join(folder, "postgres"), path.join(unfinished, "postgres"), { owner });
    await rename(unfinished, dataDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTEMPTY") throw new ConfigError(notEmpty);
    throw error;
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}
