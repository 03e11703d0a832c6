import type { MikroORM } from "@mikro-orm/postgresql";
import DataLoader from "dataloader";
import { toAppError } from "./errors.js";
import { inSession, type Session } from "./session.js";

/**
 * Reads of one kind, for many who ask at once: what is asked while one statement runs goes together into the next, so that
 * each is read after it was asked for. A key that no statement can be made of fails alone.
 */
export function gathered<Key, Value>(
  orm: MikroORM,
  read: (session: Session, keys: readonly Key[]) => Promise<Value[]>,
): DataLoader<Key, Value> {
  let running: Promise<unknown> = Promise.resolve();
  const readAll = (keys: readonly Key[]) => inSession(orm, (session) => read(session, keys));
  const readApart = async (keys: readonly Key[]) => {
    const values: (Value | Error)[] = [];
    for (const key of keys) values.push(...(await readAll([key]).catch((error) => [error as Error])));
    return values;
  };
  return new DataLoader<Key, Value>(
    (keys) => {
      const reading = readAll(keys).catch((error) => {
        if (toAppError(error).retryable) throw error;
        return readApart(keys);
      });
      running = reading.catch(() => undefined);
      return reading;
    },
    { cache: false, maxBatchSize: 1_000, batchScheduleFn: (go) => void running.then(go) },
  );
}
