import type { Reporter, TestModule } from "vitest/node";
import { minioBinary, pythonToolchain } from "./toolchain.js";

/** The last lines of a run: which suites were skipped and why, and the count that a machine reads. */
export default class ClosingLines implements Reporter {
  async onTestRunEnd(modules: readonly TestModule[]): Promise<void> {
    const counts = { passed: 0, failed: 0, skipped: 0 };
    const skippedModules: string[] = [];
    for (const module of modules) {
      let skipped = 0;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === "pending") continue;
        counts[state]++;
        if (state === "skipped") skipped++;
      }
      if (skipped > 0) skippedModules.push(`${module.relativeModuleId} (${skipped})`);
      // A file that does not load has no tests, and has failed.
      if (module.errors().length > 0) counts.failed++;
    }
    if (skippedModules.length > 0) {
      const reasons = [await pythonToolchain(), await minioBinary()].flatMap((tool) =>
        "missing" in tool ? [tool.missing] : [],
      );
      const why = reasons.length > 0 ? `\n  because there is ${reasons.join("; there is ")}` : "";
      console.log(`Skipped: ${skippedModules.join(", ")}${why}`);
    }
    console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  }
}
