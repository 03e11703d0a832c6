import { renameSync, writeFileSync } from "node:fs";

/** Loaded into the processes of a run that looks at their memory: told to, each collects its garbage and writes down what is left. */
process.on("SIGUSR2", () => {
  globalThis.gc?.();
  const file = `${process.env.MEMORY_DIR}/${process.pid}`;
  writeFileSync(`${file}.new`, String(process.memoryUsage().heapUsed));
  renameSync(`${file}.new`, file);
});
