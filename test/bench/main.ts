import { readdirSync } from "node:fs";
import path from "node:path";
import { endPeers } from "./report.js";

/** `npm run bench -- slap`: each suite is a file `<suite>.bench.ts` here, whose `run` prints its table. */
const suites = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith(".bench.js"))
  .map((file) => path.basename(file, ".bench.js"));
const wanted = process.argv.slice(2);

if (wanted.length === 0 || wanted.some((name) => !suites.includes(name))) {
  process.stderr.write(`Say which: npm run bench -- ${suites.join("|")}\n`);
  process.exitCode = 2;
} else {
  for (const name of wanted) {
    const { run } = (await import(`./${name}.bench.js`)) as { run: () => Promise<void> };
    await run().finally(endPeers);
  }
}
