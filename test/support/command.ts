import { spawn } from "node:child_process";
import path from "node:path";

const script = path.resolve(import.meta.dirname, "../../dist/cli/slapgraph.js");

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** The `slapgraph` command as a shell runs it. */
export function runCommand(
  args: string[],
  environment: Record<string, string>,
  { input, cwd, signal }: { input?: string; cwd?: string; signal?: AbortSignal } = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [script, ...args], {
    env: { PATH: process.env.PATH ?? "", ...environment },
    stdio: ["pipe", "pipe", "pipe"],
    ...(cwd ? { cwd } : {}),
    ...(signal ? { signal, killSignal: "SIGKILL" as const } : {}),
  });
  const ended: Ended = { code: null, stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => {
    ended.stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    ended.stderr += chunk;
  });
  child.on("error", () => undefined);
  child.stdin.end(input);
  return new Promise((resolve) => child.once("close", (code) => resolve({ ...ended, code })));
}
