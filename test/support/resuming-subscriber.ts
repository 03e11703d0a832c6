import { setTimeout as delay } from "node:timers/promises";
import { decodeCursor } from "../../common/event-stream.js";
import { readRows } from "./ledger.js";
import type { RunningSystem } from "./running-system.js";
import { Subscriber } from "./subscriber.js";
import { waitFor } from "./wait-for.js";

export type Transport = "WebSocket" | "SSE";

interface Change {
  partition: { key: string } | null;
}

/** What a stream got of the log: events that it never got, got twice, or got out of their order. */
export interface Deviations {
  gaps: number;
  repeated: number;
  disordered: number;
}

const query = `subscription ($after: String) { partitionStateChanged(after: $after) { cursor change { to partition { key health } } } }`;
const resumeAfterMs = 100;
/** How long a stream may stand still while there is more in the log. */
const stallTimeoutMs = 30_000;

/** Follows `partitionStateChanged`, and resumes with its last cursor whenever its stream ends, as a good client does. */
export class ResumingSubscriber {
  readonly #subscriber = new Subscriber<Change>();
  readonly #running: Promise<void>;
  #isStopping = false;
  #firstPosition: number | null = null;
  /** How often it had to resume. */
  resumed = 0;

  constructor(system: RunningSystem, transport: Transport) {
    this.#running = this.#follow(system, transport);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#subscriber.cut();
    await this.#running;
  }

  /** Resolves when it has seen its first bookmark. */
  async open(): Promise<void> {
    await waitFor(() => this.#subscriber.cursor, { what: "the first bookmark" });
    this.#firstPosition ??= decodeCursor(this.#subscriber.cursor ?? "");
  }

  /** Waits until it has caught up with the log as it is now, and compares all that it got so far. */
  async compare(databaseUrl: string): Promise<Deviations> {
    const rows = await readRows<{ position: string }>(
      databaseUrl,
      "select position from event_log.event where kind = 'PartitionStateChanged' and position > $1 order by position",
      [this.#firstPosition],
    );
    const logged = rows.map(({ position }) => Number(position));
    const last = logged.at(-1) ?? 0;
    await this.#catchUp(last);
    const received = this.#subscriber.cursors.map(decodeCursor).filter((position) => position <= last);
    const seen = new Set(received);
    return {
      gaps: logged.filter((position) => !seen.has(position)).length,
      repeated: received.length - seen.size,
      disordered: received.filter((position, index) => position < (received[index - 1] ?? 0)).length,
    };
  }

  /** The codes of errors that it was told, without those that say "try again" and lost connections. */
  get faults(): string[] {
    return this.#subscriber.errors.flatMap((error) => {
      const code = (error as { extensions?: { code?: string } }).extensions?.code;
      return code === undefined || code === "UNAVAILABLE" ? [] : [JSON.stringify(error)];
    });
  }

  async #catchUp(last: number): Promise<void> {
    const position = () => decodeCursor(this.#subscriber.cursor ?? "");
    for (let from = position(); from < last; from = position()) {
      const what = `an event after ${from} of ${last}`;
      await waitFor(position, { until: (now) => now > from, timeoutMs: stallTimeoutMs, what });
    }
  }

  async #follow(system: RunningSystem, transport: Transport): Promise<void> {
    while (!this.#isStopping) {
      if (transport === "WebSocket")
        this.#subscriber.followWebSocket(system.gatewayUrl, system.adminToken, "partitionStateChanged", query);
      else this.#subscriber.followEventStream(system.gatewayUrl, system.adminToken, "partitionStateChanged", query);
      await this.#subscriber.ended;
      this.resumed++;
      await delay(resumeAfterMs);
    }
  }
}
