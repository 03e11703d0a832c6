import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import type { TestProject } from "vitest/node";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../common/embedded-postgres.js";
import { createLogger } from "../../common/log.js";

declare module "vitest" {
  interface ProvidedContext {
    /** A real PostgreSQL for the whole run, whose databases are made by each file. */
    postgresUrl: string;
  }
}

const dir = mkdtempSync("/tmp/sg-pg-");
// PostgreSQL may run as another user than the tests.
chmodSync(dir, 0o755);
let postgres: EmbeddedPostgres | undefined;

export async function setup(project: TestProject): Promise<void> {
  const log = createLogger("warn", "tests");
  postgres = await startEmbeddedPostgres({
    dir: `${dir}/data`,
    password: "tests",
    database: "template",
    log,
    durable: false,
  });
  project.provide("postgresUrl", postgres.url);
}

export async function teardown(): Promise<void> {
  await postgres?.stop();
  rmSync(dir, { recursive: true, force: true });
}
