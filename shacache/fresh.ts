const freshMs = 1_000;
const maxKept = 10_000;

/** What is read with every request and seldom changes: read again once it is a second old, also where another process changed it. */
export class Fresh<Value> {
  readonly #read: (key: string) => Promise<Value>;
  readonly #kept = new Map<string, { value: Promise<Value>; readAt: number }>();

  constructor(read: (key: string) => Promise<Value>) {
    this.#read = read;
  }

  get(key: string): Promise<Value> {
    const kept = this.#kept.get(key);
    if (kept && performance.now() - kept.readAt < freshMs) return kept.value;
    const value = this.#read(key);
    if (this.#kept.size >= maxKept) this.#kept.clear();
    this.#kept.set(key, { value, readAt: performance.now() });
    // A failure is told to those who asked, and not remembered.
    value.catch(() => this.forget(key));
    return value;
  }

  forget(key: string): void {
    this.#kept.delete(key);
  }
}
