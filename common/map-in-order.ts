/**
 * Maps what an iterator gives, up to so many at a time, and gives the results in their order. What is begun and never
 * taken is dropped. It reads ahead of its reader by that number, no more.
 */
export function mapInOrder<In, Out>(
  source: AsyncIterator<In>,
  work: (value: In) => Promise<Out>,
  atATime: number,
): AsyncIterableIterator<Out> {
  const begun: Promise<IteratorResult<Out>>[] = [];
  let taken: Promise<unknown> = Promise.resolve();
  let isOver = false;
  const begin = async (): Promise<IteratorResult<Out>> => {
    // The source is asked for one after another: what it says of an end holds for all that come after it.
    const next = taken.then(() => source.next());
    taken = next;
    const { done, value } = await next;
    if (!done) return { done: false, value: await work(value) };
    isOver = true;
    return { done: true, value: undefined };
  };
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      while (begun.length < atATime && !isOver) {
        const one = begin();
        // It is looked at in its turn, which may come after it has failed, or never.
        one.catch(() => undefined);
        begun.push(one);
      }
      return (await begun.shift()) ?? { done: true, value: undefined };
    },
    async return() {
      isOver = true;
      begun.length = 0;
      await source.return?.();
      return { done: true, value: undefined };
    },
  };
}
