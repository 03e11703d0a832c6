/** What was so a short while ago, for so many names: the oldest make room, and nothing outlives its term. */
export class Remembered {
  readonly #until = new Map<string, number>();
  readonly #termMs: number;
  readonly #maxNames: number;

  constructor(termMs: number, maxNames: number) {
    this.#termMs = termMs;
    this.#maxNames = maxNames;
  }

  add(name: string): void {
    this.#until.delete(name);
    this.#until.set(name, Date.now() + this.#termMs);
    const oldest = this.#until.keys().next().value;
    if (this.#until.size > this.#maxNames && oldest !== undefined) this.#until.delete(oldest);
  }

  has(name: string): boolean {
    const until = this.#until.get(name);
    if (until === undefined) return false;
    if (until > Date.now()) return true;
    this.#until.delete(name);
    return false;
  }

  delete(name: string): void {
    this.#until.delete(name);
  }
}
