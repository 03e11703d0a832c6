import type { Socket } from "node:net";
import { Counter } from "prom-client";
import type { WebSocket } from "ws";
import { AppError } from "../common/errors.js";
import { metrics } from "../common/metrics.js";

/** Who reads nothing for so long is not waited for any more. Its cursor is as good later as now. */
export const stallMs = 15_000;
/** How long the reason of the close may take to arrive, before the connection is cut. */
export const farewellMs = 30_000;
const pingIntervalMs = 5_000;

const sentAway = new Counter({
  name: "slapgraph_subscribers_too_slow_total",
  help: "Subscribers that were closed because they read nothing for too long.",
  registers: [metrics],
});

/** The reason, counted. */
export function tooSlow(): AppError {
  sentAway.inc();
  return new AppError(
    "SUBSCRIBER_TOO_SLOW",
    `Nothing was read for ${stallMs / 1000} s. Subscribe again with your last cursor.`,
  );
}

interface Reader {
  connection: Socket;
  onStall: () => void;
  progressAt: number;
  pingedAt: number;
  sentBytes: number;
}

/**
 * Tells readers that are slow from readers that stopped. What counts is what a reader takes: the answer to a ping, which
 * lies behind what was sent before it, and bytes that left. Who only goes on sending reads nothing. What a reader has not taken waits in the log and not here: each stream has one event on its way.
 */
export class ReaderWatch {
  readonly #readers = new Map<WebSocket, Reader>();

  /** `onStall` stops what would go on producing for the reader. */
  add(socket: WebSocket, connection: Socket, onStall: () => void): void {
    const now = Date.now();
    const reader: Reader = { connection, onStall, progressAt: now, pingedAt: now, sentBytes: 0 };
    this.#readers.set(socket, reader);
    socket.on("pong", () => {
      reader.progressAt = Date.now();
    });
    socket.once("close", () => this.#readers.delete(socket));
  }

  /** To be called more often than anything here lasts. */
  check(): void {
    const now = Date.now();
    for (const [socket, reader] of this.#readers) {
      const sentBytes = reader.connection.bytesWritten - socket.bufferedAmount;
      if (sentBytes > reader.sentBytes) reader.progressAt = now;
      reader.sentBytes = sentBytes;
      if (now - reader.progressAt >= stallMs) this.#sendAway(socket, reader);
      else if (now - reader.pingedAt >= pingIntervalMs) {
        reader.pingedAt = now;
        socket.ping();
      }
    }
  }

  #sendAway(socket: WebSocket, reader: Reader): void {
    this.#readers.delete(socket);
    const { code, message } = tooSlow();
    // 1013: try again later. A reader that goes on within the time to come reads the reason.
    socket.close(1013, `${code}: ${message}`);
    reader.onStall();
    setTimeout(() => socket.terminate(), farewellMs).unref();
  }
}
