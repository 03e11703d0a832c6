import type { Logger } from "./log.js";

/** How long a stop may take before the process ends anyway, whatever is still open. */
const stopDeadlineMs = 9_000;

/** Closes what was opened in reverse order of opening; one that fails to close does not keep the others open. */
export class Closer {
  readonly #steps: { name: string; close: () => unknown }[] = [];

  add(name: string, close: () => unknown): void {
    this.#steps.push({ name, close });
  }

  async close(log?: Logger): Promise<void> {
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step.close();
      } catch (error) {
        log?.warn({ err: error }, `closing ${step.name} failed`);
      }
    }
  }
}

/**
 * Ties a started service to the process: SIGTERM and SIGINT close it once and the loop runs dry. `process.exit` is only
 * the hard deadline behind that, because on Node 24 it can hang after much socket traffic.
 */
export function closeOnSignal(close: () => Promise<void>): void {
  let closing = false;
  const stop = () => {
    if (closing) return;
    closing = true;
    setTimeout(() => process.exit(0), stopDeadlineMs).unref();
    void close().finally(() => {
      process.exitCode = 0;
      setTimeout(() => process.exit(0), 250).unref();
    });
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
}
