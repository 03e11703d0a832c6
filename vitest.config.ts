import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  oxc: { decorator: { legacy: true, emitDecoratorMetadata: true } },
  // One graphql: what Node resolves for the libraries is what the sources get too.
  resolve: { alias: [{ find: /^graphql$/, replacement: createRequire(import.meta.url).resolve("graphql") }] },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    reporters: ["default", "./test/support/closing-lines.ts"],
    // Most of a file's time is waiting for processes of its own.
    maxWorkers: availableParallelism() + 1,
    testTimeout: 120_000,
    hookTimeout: 240_000,
    retry: 0,
  },
});
