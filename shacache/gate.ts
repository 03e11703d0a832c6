import { AppError } from "../common/errors.js";

/** Lets so many in at once. The others wait in the order they came; who waits too long is UNAVAILABLE. */
export class Gate {
  readonly #limit: number;
  readonly #maxWaitMs: number;
  readonly #waiting: (() => void)[] = [];
  #inside = 0;

  constructor(limit: number, maxWaitMs: number) {
    this.#limit = limit;
    this.#maxWaitMs = maxWaitMs;
  }

  async pass<Result>(work: () => Promise<Result>): Promise<Result> {
    const leave = await this.enter();
    try {
      return await work();
    } finally {
      leave();
    }
  }

  /** Returns what leaves again. */
  async enter(): Promise<() => void> {
    if (this.#inside >= this.#limit) await this.#wait();
    else this.#inside++;
    let isInside = true;
    return () => {
      if (!isInside) return;
      isInside = false;
      // The place goes to the next one, so the count stays.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#inside--;
    };
  }

  #wait(): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(new AppError("UNAVAILABLE", "Too much is going on at once. Try again in some seconds."));
      }, this.#maxWaitMs);
      this.#waiting.push(enter);
    });
  }
}
