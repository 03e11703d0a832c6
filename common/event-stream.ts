import { AppError } from "./errors.js";
import type { EventLog, LoggedEvent } from "./event-log.js";
import { eventsDelivered, openStreams } from "./metrics.js";

/** What a subscriber gets: a change, or (without one) a bookmark that says how far the stream has looked. */
export interface StreamItem<Change> {
  cursor: string;
  at: Date;
  change: Change | null;
  /** The same for events that were read of the log together. */
  readWith?: object;
}

export interface StreamOptions<Change> {
  /** The last cursor seen, exclusive; absent means from now on. */
  after: string | null | undefined;
  /** Null for an event that this stream is not about or this caller may not see. */
  toChange: (event: LoggedEvent) => Change | null | Promise<Change | null>;
  /** Throws when the caller may no longer listen. Asked before each change and at least once a second. */
  assertAllowed: () => void;
  bookmarkIntervalMs?: number;
}

/** Ends at once when it is left, whatever it waits for. */
export interface EventStream<Change> extends AsyncIterableIterator<StreamItem<Change>> {
  return(): Promise<IteratorResult<StreamItem<Change>>>;
}

const defaultBookmarkIntervalMs = 15_000;
/** A revoked token ends its streams within this time, quiet streams included. */
const allowedCheckIntervalMs = 500;

const cursorPrefix = "event:";

export function encodeCursor(position: number): string {
  return Buffer.from(`${cursorPrefix}${position}`).toString("base64url");
}

export function decodeCursor(cursor: string): number {
  const text = cursor.length <= 64 ? Buffer.from(cursor, "base64url").toString("utf8") : "";
  const position = Number(text.slice(cursorPrefix.length));
  if (
    !text.startsWith(cursorPrefix) ||
    !Number.isSafeInteger(position) ||
    position < 0 ||
    encodeCursor(position) !== cursor
  ) {
    throw new AppError("BAD_CURSOR", "This cursor was not made by this API. Pass one unchanged, or none.");
  }
  return position;
}

/**
 * Replays from a cursor and then follows. It pulls: a follower holds one position and no queue, so a slow one costs no
 * memory, only time, until what it has not read is no longer kept (RESUME_EXPIRED).
 */
export function streamEvents<Change>(log: EventLog, options: StreamOptions<Change>): EventStream<Change> {
  const left = new AbortController();
  const items = follow(log, options, left.signal);
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: () => items.next(),
    // A generator hears of it after what it is waiting for, which on a quiet stream is the next bookmark.
    return: () => {
      left.abort();
      return items.return(undefined);
    },
  };
}

async function* follow<Change>(
  log: EventLog,
  options: StreamOptions<Change>,
  left: AbortSignal,
): AsyncGenerator<StreamItem<Change>> {
  openStreams.inc();
  try {
    options.assertAllowed();
    let position = log.horizon;
    if (options.after != null) {
      position = decodeCursor(options.after);
      await log.assertReadable(position);
    }
    let lastSentAt = Date.now();
    // A first bookmark comes at once, so that a client can resume even when it is cut before the first event.
    yield { cursor: encodeCursor(position), at: new Date(), change: null };
    for (;;) {
      const horizon = log.horizon;
      const events = await log.readAfter(position);
      for (const event of events) {
        position = event.position;
        // Most events are not for most streams: those cost no turn of the loop.
        const found = options.toChange(event);
        const change = found instanceof Promise ? await found : found;
        if (change === null) continue;
        options.assertAllowed();
        lastSentAt = Date.now();
        eventsDelivered.inc();
        yield { cursor: encodeCursor(position), at: event.at, change, readWith: events };
      }
      if (events.length === 0) position = Math.max(position, horizon);
      options.assertAllowed();
      if (Date.now() - lastSentAt >= (options.bookmarkIntervalMs ?? defaultBookmarkIntervalMs)) {
        lastSentAt = Date.now();
        yield { cursor: encodeCursor(position), at: new Date(), change: null };
      }
      if (events.length === 0 && !left.aborted) await log.waitPast(position, allowedCheckIntervalMs, left);
      if (left.aborted) return;
    }
  } catch (error) {
    if (!left.aborted) throw error;
  } finally {
    openStreams.dec();
  }
}
