import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { SharedReads } from "../../common/shared-reads.js";

/** Reads that end when they are told to. */
function readsByHand() {
  const begun: { keys: string[]; end: (error?: Error) => void }[] = [];
  const reads = new SharedReads((keys: string[]) => {
    const { promise, resolve, reject } = Promise.withResolvers<Map<string, number>>();
    const number = begun.length;
    begun.push({ keys, end: (error) => (error ? reject(error) : resolve(new Map(keys.map((key) => [key, number])))) });
    return promise;
  });
  return { reads, begun };
}

test("what many ask for while reads are under way is one read, begun after the last of them asked", async () => {
  const { reads, begun } = readsByHand();
  const first = [];
  for (const key of ["a", "b", "c", "d"]) {
    first.push(reads.load([key]));
    await turn();
  }
  const later = Array.from({ length: 1_000 }, () => reads.load(["a", "e"]));
  await turn();
  expect(begun.map(({ keys }) => keys)).toEqual([["a"], ["b"], ["c"], ["d"]]);
  begun[0]?.end();
  await turn();
  expect(begun[4]?.keys).toEqual(["a", "e"]);
  for (const { end } of begun) end();
  expect((await first[0])?.get("a")).toBe(0);
  for (const one of await Promise.all(later))
    expect([...one]).toEqual([
      ["a", 4],
      ["e", 4],
    ]);
});

test("a read is no answer to who asks after it began", async () => {
  const { reads, begun } = readsByHand();
  const early = reads.load(["a"]);
  await turn();
  const late = reads.load(["a"]);
  await turn();
  for (const { end } of begun) end();
  expect([(await early).get("a"), (await late).get("a")]).toEqual([0, 1]);
});

test("a read that fails fails for those who asked it, and the next goes on", async () => {
  const { reads, begun } = readsByHand();
  const failed = [reads.load(["a"]), reads.load(["b"])].map((found) => found.catch((error: Error) => error.message));
  await turn();
  begun[0]?.end(new Error("away"));
  expect(await Promise.all(failed)).toEqual(["away", "away"]);
  const next = reads.load(["a"]);
  await turn();
  begun[1]?.end();
  expect((await next).get("a")).toBe(1);
});

test("a read asks for a thousand things at a time", async () => {
  const { reads, begun } = readsByHand();
  const all = Array.from({ length: 2_500 }, (_, number) => reads.load([String(number)]));
  await turn();
  expect(begun.map(({ keys }) => keys.length)).toEqual([1_000, 1_000, 500]);
  for (const { end } of begun) end();
  await Promise.all(all);
});
