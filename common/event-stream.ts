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
export async function* streamEvents<Change>(
  log: EventLog,
  options: StreamOptions<Change>,
): AsyncGenerator<StreamItem<Change>> {
  const stopped = new AbortController();
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
      if (events.length === 0) await log.waitPast(position, allowedCheckIntervalMs, stopped.signal);
    }
  } finally {
    stopped.abort();
    openStreams.dec();
  }
}
