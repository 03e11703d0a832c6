import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import type { RunningSystem } from "./running-system.js";
import { waitFor } from "./wait-for.js";

export interface ServiceMemory {
  service: string;
  /** Resident, over the time. */
  rssMb: number[];
  /** What was left after garbage collections, at each time that it was asked for. */
  liveMb: number[];
}

const collectTimeoutMs = 60_000;

/** Watches what the processes of a system hold. It has to be started with this environment. */
export class MemoryWatch {
  readonly #dir = mkdtempSync("/tmp/sg-memory-");
  readonly environment = {
    NODE_OPTIONS: `--expose-gc --import=${path.resolve(import.meta.dirname, "tell-memory.js")}`,
    MEMORY_DIR: this.#dir,
  };

  begin(system: RunningSystem): ServiceMemory[] {
    return system.services.map((service) => ({ service, rssMb: [], liveMb: [] }));
  }

  sample(system: RunningSystem, memory: ServiceMemory[]): void {
    for (const { service, rssMb } of memory) rssMb.push(residentMb(system.pidOf(service)));
  }

  /** Has every process collect its garbage, and notes what is left. */
  async collect(system: RunningSystem, memory: ServiceMemory[]): Promise<void> {
    for (const { service, liveMb } of memory) {
      const pid = system.pidOf(service);
      const file = path.join(this.#dir, String(pid));
      rmSync(file, { force: true });
      process.kill(pid, "SIGUSR2");
      await waitFor(() => existsSync(file), { timeoutMs: collectTimeoutMs, what: `garbage collection of ${service}` });
      liveMb.push(Math.round(Number(readFileSync(file, "utf8")) / 2 ** 20));
    }
  }

  close(): void {
    rmSync(this.#dir, { recursive: true });
  }
}

function residentMb(pid: number): number {
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024);
}
