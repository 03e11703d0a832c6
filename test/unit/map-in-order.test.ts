import fc from "fast-check";
import { expect, test } from "vitest";
import { mapInOrder } from "../../common/map-in-order.js";

async function* numbers(count: number, failsAt?: number): AsyncGenerator<number> {
  for (let number = 0; number < count; number++) {
    if (number === failsAt) throw new Error("the source fails");
    yield number;
  }
}

async function collect<T>(iterator: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of iterator) all.push(one);
  return all;
}

test("results come in the order of the source, however long each takes, and no more are begun than may be", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(3), { maxLength: 30 }),
      fc.integer({ min: 1, max: 8 }),
      async (delays, atATime) => {
        let running = 0;
        let most = 0;
        const work = async (number: number) => {
          most = Math.max(most, ++running);
          for (let turn = 0; turn < (delays[number] ?? 0); turn++) await new Promise(setImmediate);
          running--;
          return number * 2;
        };
        expect(await collect(mapInOrder(numbers(delays.length), work, atATime))).toEqual(
          delays.map((_, number) => number * 2),
        );
        expect(most).toBeLessThanOrEqual(atATime);
      },
    ),
    { numRuns: 50 },
  );
});

test("what comes before a failure of the source is given, then the failure, and nothing after it", async () => {
  const seen: number[] = [];
  const iterator = mapInOrder(numbers(10, 3), async (number) => number, 4);
  await expect(
    (async () => {
      for await (const number of iterator) seen.push(number);
    })(),
  ).rejects.toThrow("the source fails");
  expect(seen).toEqual([0, 1, 2]);
});

test("the source is never asked while it still answers", async () => {
  let asked = 0;
  const source: AsyncIterator<number> = {
    async next() {
      expect(++asked).toBe(1);
      await new Promise(setImmediate);
      asked--;
      return { done: false, value: 1 };
    },
  };
  const iterator = mapInOrder(source, async (number) => number, 8);
  for (let turn = 0; turn < 20; turn++) await iterator.next();
});
