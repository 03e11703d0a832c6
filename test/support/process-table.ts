import { readdirSync, readFileSync, readlinkSync } from "node:fs";

interface Process {
  pid: number;
  parent: number;
  state: string;
  command: string;
}

/** Processes that have to do with a folder and descend from none of the given ones, and dead ones that nobody took leave of. */
export function findStrays(folder: string, roots: readonly number[]): string[] {
  const processes = readProcesses();
  const byId = new Map(processes.map((one) => [one.pid, one]));
  const known = new Set(roots);
  const descends = (one: Process | undefined): boolean =>
    one !== undefined && (known.has(one.pid) || descends(byId.get(one.parent)));
  const strays = processes.filter((one) =>
    one.state === "Z" ? roots.includes(one.parent) : belongsTo(one.pid, folder) && !descends(one),
  );
  return strays.map(({ pid, state, command }) => `${pid} (${state}) ${command}`);
}

/** A process and those that it started. */
export function familyOf(pid: number): number[] {
  return [pid, ...readProcesses().flatMap((one) => (one.parent === pid ? [one.pid] : []))];
}

function readProcesses(): Process[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const stat = read(`/proc/${name}/stat`);
      // The command in parentheses may hold anything, so what follows it is counted from its end.
      const [state = "", parent = ""] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const command = read(`/proc/${name}/cmdline`).replaceAll("\0", " ").trim();
      return stat === "" ? [] : [{ pid: Number(name), parent: Number(parent), state, command }];
    });
}

/** By its working folder, its arguments or its environment: PostgreSQL's backends overwrite the last two. */
function belongsTo(pid: number, folder: string): boolean {
  if (pid === process.pid) return false;
  const about = read(`/proc/${pid}/cmdline`) + read(`/proc/${pid}/environ`);
  return about.includes(folder) || workingFolder(pid).startsWith(folder);
}

function workingFolder(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return "";
  }
}

/** Empty for a process that has gone meanwhile. */
function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
