import { AppError, toAppError } from "./errors.js";

interface Waiting<Item, Result> {
  item: Item;
  resolve: (result: Result) => void;
  reject: (error: unknown) => void;
}

const defaultMaxBatch = 200;
const maxWaiting = 10_000;

/**
 * Work that would queue for one lock anyway, done together: what is submitted for a subject while a batch of it is under
 * way goes into the next, in order. So a burst costs as many transactions as fit behind one another, each durable before
 * any of its items is answered. Subjects do not wait for one another, and an item that makes a batch fail fails alone.
 */
export class Batches<Item, Result> {
  readonly #run: (subject: string, items: readonly Item[]) => Promise<readonly (Result | AppError)[]>;
  readonly #maxBatch: number;
  /** Present while a batch of the subject is under way. */
  readonly #waiting = new Map<string, Waiting<Item, Result>[]>();

  /** `run` answers each item by its place, with an error for one that is refused; when it throws, nothing was done. */
  constructor(
    run: (subject: string, items: readonly Item[]) => Promise<readonly (Result | AppError)[]>,
    maxBatch = defaultMaxBatch,
  ) {
    this.#run = run;
    this.#maxBatch = maxBatch;
  }

  submit(subject: string, item: Item): Promise<Result> {
    return new Promise<Result>((resolve, reject) => {
      const one = { item, resolve, reject };
      const queue = this.#waiting.get(subject);
      if (!queue) {
        this.#waiting.set(subject, []);
        void this.#runAll(subject, [one]);
      } else if (queue.length < maxWaiting) queue.push(one);
      else reject(new AppError("UNAVAILABLE", `Too much waits for ${subject} just now. Try again in some seconds.`));
    });
  }

  async #runAll(subject: string, first: Waiting<Item, Result>[]): Promise<void> {
    for (let batch = first; batch.length > 0; batch = this.#waiting.get(subject)?.splice(0, this.#maxBatch) ?? []) {
      await this.#runBatch(subject, batch);
    }
    this.#waiting.delete(subject);
  }

  async #runBatch(subject: string, batch: readonly Waiting<Item, Result>[]): Promise<void> {
    try {
      const results = await this.#run(
        subject,
        batch.map(({ item }) => item),
      );
      for (const [index, { resolve, reject }] of batch.entries()) {
        const result = results[index];
        if (result instanceof AppError) reject(result);
        else resolve(result as Result);
      }
    } catch (error) {
      // What is wrong with one item is not the others' fault; a database that is away is nobody's.
      if (batch.length === 1 || toAppError(error).retryable) for (const { reject } of batch) reject(error);
      else for (const one of batch) await this.#runBatch(subject, [one]);
    }
  }
}
