import { tell } from "../output.js";
import { CacheError } from "./cache-error.js";

/** What the command ends with. Absence and difference are an answer; not having been able to look is none. */
export const exitCodes = { allDone: 0, failed: 1, absentOrDifferent: 2 } as const;

/**
 * Does the work for each item, so many at a time; items are taken as there is room, so that their number does not matter.
 * One that fails is said by its name and the others go on. The command's exit code.
 */
export async function runAll<Item extends { name: string }>(
  items: AsyncIterable<Item> | Iterable<Item>,
  jobs: number,
  work: (item: Item) => Promise<void>,
): Promise<number> {
  let failed = 0;
  let absent = 0;
  const source = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const worker = async () => {
    for (let next = await source.next(); !next.done; next = await source.next()) {
      const item = next.value;
      try {
        await work(item);
      } catch (error) {
        const kind = error instanceof CacheError ? error.kind : null;
        if (kind === "absent" || kind === "differs") absent++;
        else failed++;
        tell(`${item.name}: ${(error as Error).message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  if (failed > 0) return exitCodes.failed;
  return absent > 0 ? exitCodes.absentOrDifferent : exitCodes.allDone;
}
