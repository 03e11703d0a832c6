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
  toChange: (event: LoggedEvent) => Change | null;
  /** Throws when the caller may no longer listen. Asked before each change and at least once a second. */
  assertAllowed: () => void;
  bookmarkIntervalMs?: number;
}

/** Ends at once when it is left, whatever it waits for. */
export interface EventStream<Change> extends AsyncIterableIterator<StreamItem<Change>> {
  return(): Promise<IteratorResult<StreamItem<Change>>>;
}

const defaultBookmarkIntervalMs = 15_000;
/** What a stream that is not read holds at most. */
const pageSize = 100;
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
 * Replays from a cursor and then follows. It pulls: a follower holds what one page has for it and no queue, so a slow one
 * costs little memory, only time, until what it has not read is no longer kept (RESUME_EXPIRED).
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
  const endFollowing = log.beginFollowing();
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
      const page = await readChanges(log, position, options.toChange);
      position = page.upTo;
      for (const { event, change } of page.changes) {
        options.assertAllowed();
        lastSentAt = Date.now();
        eventsDelivered.inc();
        yield { cursor: encodeCursor(event.position), at: event.at, change, readWith: page };
      }
      options.assertAllowed();
      if (Date.now() - lastSentAt >= (options.bookmarkIntervalMs ?? defaultBookmarkIntervalMs)) {
        lastSentAt = Date.now();
        yield { cursor: encodeCursor(position), at: new Date(), change: null };
      }
      if (page.isLast && !left.aborted) await log.waitPast(position, allowedCheckIntervalMs, left);
      if (left.aborted) return;
    }
  } catch (error) {
    if (!left.aborted) throw error;
  } finally {
    endFollowing();
    openStreams.dec();
  }
}

interface ChangePage<Change> {
  changes: { event: LoggedEvent; change: Change }[];
  upTo: number;
  isLast: boolean;
}

/** Keeps of a page only what is for this stream: a thousand slow ones would hold a thousand pages for others. */
async function readChanges<Change>(
  log: EventLog,
  position: number,
  toChange: StreamOptions<Change>["toChange"],
): Promise<ChangePage<Change>> {
  const { horizon } = log;
  const changes: ChangePage<Change>["changes"] = [];
  const events = await log.readAfter(position, pageSize);
  for (const event of events) {
    const change = toChange(event);
    if (change !== null) changes.push({ event, change });
  }
  const last = events.at(-1);
  return { changes, upTo: last?.position ?? Math.max(position, horizon), isLast: last === undefined };
}
