import { spawn } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { PythonToolchain } from "./toolchain.js";

export interface CommandResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface SlaposNodeOptions {
  toolchain: PythonToolchain;
  computerId: string;
  /** The node's master_url, its credential in the path unless it has a certificate. */
  masterUrl: string;
  /** What the node identifies itself with, for a master_url that is https. */
  certificate?: { certificate: string; key: string };
  /** A person's, for `slapos supply` and `slapos request`. */
  clientMasterUrl: string;
  partitionCount: number;
  /** Where releases are installed, if not in the node's own folder. */
  softwareRoot?: string;
  /** More sections of slapos.cfg. */
  moreConfiguration?: string;
}

const commandTimeoutMs = 120_000;
const fullMask4 = "255.255.255.255";
const fullMask6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

/**
 * A computer that runs the real, unmodified slapos command line as an unprivileged user, in a folder of its own. The path
 * is short because supervisord's socket is in it.
 */
export class SlaposNode {
  readonly folder: string;
  readonly #options: SlaposNodeOptions;

  constructor(options: SlaposNodeOptions) {
    this.#options = options;
    this.folder = mkdtempSync("/tmp/sn-");
    for (const name of ["soft", "inst", "run", "pki"]) mkdirSync(this.path(name));
    if (options.certificate) {
      this.#write("node.crt", options.certificate.certificate);
      this.#write("node.key", options.certificate.key);
    }
    this.#write("slapos.cfg", this.#configuration());
    this.#write("client.cfg", `[slapos]\nmaster_url = ${options.clientMasterUrl}\n`);
    this.#write("definition.cfg", this.#definition());
    chmodSync(this.folder, 0o755);
    for (const name of ["", "soft", "inst", "run", "pki"]) this.#own(this.path(name));
    if (options.softwareRoot) this.#own(options.softwareRoot);
  }

  path(...names: string[]): string {
    return path.join(this.folder, ...names);
  }

  partitionPath(reference: string, ...names: string[]): string {
    return this.path("inst", reference, ...names);
  }

  format(): Promise<CommandResult> {
    return this.slapos(["node", "format", "--now", "--cfg", this.path("slapos.cfg")]);
  }

  software(): Promise<CommandResult> {
    return this.slapos(["node", "software", "--cfg", this.path("slapos.cfg")]);
  }

  /** Without arguments: what cron runs each minute, up to date partitions checked in anomaly mode only. */
  instance(...flags: string[]): Promise<CommandResult> {
    return this.slapos(["node", "instance", ...flags, "--cfg", this.path("slapos.cfg")]);
  }

  report(): Promise<CommandResult> {
    return this.slapos(["node", "report", "--cfg", this.path("slapos.cfg")]);
  }

  supply(url: string): Promise<CommandResult> {
    return this.slapos(["supply", url, this.#options.computerId, "--cfg", this.path("client.cfg")]);
  }

  request(title: string, url: string, ...flags: string[]): Promise<CommandResult> {
    return this.slapos(["request", title, url, ...flags, "--cfg", this.path("client.cfg")]);
  }

  remove(url: string): Promise<CommandResult> {
    return this.slapos(["remove", url, this.#options.computerId, "--cfg", this.path("client.cfg")]);
  }

  /** A command of a person: `service list`, `computer info COMP-1`. */
  client(...args: string[]): Promise<CommandResult> {
    return this.slapos([...args, "--cfg", this.path("client.cfg")]);
  }

  bang(message: string): Promise<CommandResult> {
    return this.slapos(["node", "bang", "--message", message, "--cfg", this.path("slapos.cfg")]);
  }

  /** What supervisord tells the watchdog when a watched process of a partition has died, given to the real one. */
  watchdog(partition: string): Promise<CommandResult> {
    const { toolchain, computerId, masterUrl } = this.#options;
    const payload = `processname:sleeper-on-watch groupname:${partition} from_state:RUNNING expected:0 pid:1`;
    const event = `ver:3.0 server:supervisor serial:1 pool:watchdog poolserial:1 eventname:PROCESS_STATE_EXITED len:${payload.length}`;
    const flags = `--master-url '${masterUrl}' --computer-id ${computerId} --instance-root-path ${this.path("inst")}`;
    // It reads events for ever: the end of its input is its end.
    return this.run("/bin/sh", [
      "-c",
      `printf '%s\\n%s' '${event}' '${payload}' | timeout 20 ${path.join(toolchain.bin, "slapos-watchdog")} ${flags} 2>&1; true`,
    ]);
  }

  /** Another number of partitions at the next format. */
  setPartitionCount(partitionCount: number): void {
    this.#options.partitionCount = partitionCount;
    this.#write("slapos.cfg", this.#configuration());
    this.#write("definition.cfg", this.#definition());
  }

  writeFile(name: string, content: string): string {
    this.#write(name, content);
    return this.path(name);
  }

  slapos(args: string[]): Promise<CommandResult> {
    return this.run(path.join(this.#options.toolchain.bin, "slapos"), args);
  }

  /** A Python program in the environment of the real clients. */
  python(source: string, ...args: string[]): Promise<CommandResult> {
    return this.run(this.#options.toolchain.python, ["-c", source, ...args]);
  }

  run(command: string, args: string[]): Promise<CommandResult> {
    const { toolchain } = this.#options;
    const child = spawn(command, args, {
      ...toolchain.runAs,
      cwd: this.folder,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: { HOME: this.folder, PATH: `${toolchain.bin}:/usr/bin:/bin`, LANG: "C.UTF-8", PYTHONWARNINGS: "ignore" },
    });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        killGroup(child.pid);
        reject(
          new Error(
            `${[command, ...args].join(" ")} took more than ${commandTimeoutMs / 1000} s\n${stdout}\n${stderr}`,
          ),
        );
      }, commandTimeoutMs);
      child.once("error", reject);
      // supervisord keeps the pipes open after the command has ended, so its exit is what counts.
      child.once("exit", (code) => {
        clearTimeout(timer);
        setTimeout(() => resolve({ code, stdout, stderr }), 50);
      });
    });
  }

  /** Stops supervisord with what it runs, and removes the folder. */
  async close(): Promise<void> {
    const pidFile = this.path("inst/var/run/supervisord.pid");
    if (existsSync(pidFile)) {
      const pid = Number(readFileSync(pidFile, "utf8").trim());
      try {
        process.kill(pid, "SIGTERM");
        for (let turn = 0; turn < 100 && existsSync(`/proc/${pid}`); turn++)
          await new Promise((resolve) => setTimeout(resolve, 50));
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended, which is what was wanted.
      }
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  #write(name: string, content: string): void {
    writeFileSync(this.path(name), content);
    this.#own(this.path(name));
  }

  #own(file: string): void {
    const { runAs } = this.#options.toolchain;
    if (runAs) chownSync(file, runAs.uid, runAs.gid);
  }

  #configuration(): string {
    const { computerId, masterUrl, partitionCount, certificate, softwareRoot, moreConfiguration } = this.#options;
    const identity = certificate
      ? `key_file = ${this.path("node.key")}\ncert_file = ${this.path("node.crt")}\ncertificate_repository_path = ${this.path("pki")}\n`
      : "";
    return `[slapos]
computer_id = ${computerId}
master_url = ${masterUrl}
${identity}software_root = ${softwareRoot ?? this.path("soft")}
instance_root = ${this.path("inst")}
root_check = false
pidfile_software = ${this.path("run/software.pid")}
pidfile_instance = ${this.path("run/instance.pid")}
pidfile_report = ${this.path("run/report.pid")}
software_min_free_space = 1M
instance_min_free_space = 1M

[slapformat]
partition_amount = ${partitionCount}
alter_user = False
alter_network = False
create_tap = False
computer_xml = ${this.path("slapos.xml")}
input_definition_file = ${this.path("definition.cfg")}
interface_name = lo
ipv4_local_network = 10.0.0.0/16
partition_base_name = slappart
user_base_name = slapuser
tap_base_name = slaptap
${moreConfiguration ?? ""}`;
  }

  #definition(): string {
    const { toolchain, partitionCount } = this.#options;
    const user = toolchain.runAs ? "nobody" : (process.env.USER ?? "nobody");
    const partitions = Array.from({ length: partitionCount }, (_, index) => {
      return `
[partition_${index}]
address = 127.0.0.1/${fullMask4} ::1/${fullMask6}
pathname = slappart${index}
user = ${user}
network_interface = slaptap${index}
`;
    });
    return `[computer]\naddress = 127.0.0.1/${fullMask4}\nsoftware_user = ${user}\n${partitions.join("")}`;
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // The group has ended.
  }
}
