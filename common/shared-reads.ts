interface Group<Key, Value> {
  keys: Set<Key>;
  found: Promise<ReadonlyMap<Key, Value>>;
}

const maxReads = 4;
const maxKeys = 1_000;

/**
 * Reads that many ask for at the same time, done together: who asks while enough reads are under way goes into the next one
 * with all others. What is read is never older than its asking. It is read without regard to who asks: rights are checked
 * by each caller for itself, on what it is given, which it must not change.
 */
export class SharedReads<Key, Value> {
  readonly #read: (keys: Key[]) => Promise<ReadonlyMap<Key, Value>>;
  /** Under way, or waiting for one that is. */
  readonly #groups: Promise<unknown>[] = [];
  /** Not begun yet. */
  #open: Group<Key, Value> | null = null;

  constructor(read: (keys: Key[]) => Promise<ReadonlyMap<Key, Value>>) {
    this.#read = read;
  }

  load(keys: readonly Key[]): Promise<ReadonlyMap<Key, Value>> {
    if (!this.#open || this.#open.keys.size >= maxKeys) this.#open = this.#form();
    for (const key of keys) this.#open.keys.add(key);
    return this.#open.found;
  }

  #form(): Group<Key, Value> {
    const before = this.#groups.at(-maxReads);
    const begin = async () => {
      await before?.catch(() => undefined);
      if (this.#open === group) this.#open = null;
      return this.#read([...group.keys]);
    };
    const group: Group<Key, Value> = { keys: new Set(), found: Promise.resolve().then(begin) };
    this.#groups.push(group.found);
    const leave = () => void this.#groups.splice(this.#groups.indexOf(group.found), 1);
    group.found.then(leave, leave);
    return group;
  }
}
