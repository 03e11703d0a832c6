import type { ExecutionResult } from "graphql";
import { createClient, type SubscribePayload } from "graphql-ws";
import WebSocket from "ws";

/** Events that may lie here before the subgraph is made to wait. */
const pauseAtEvents = 64;

export interface RemoteSubscriptionOptions {
  url: string;
  connectionParams: Record<string, unknown>;
  payload: SubscribePayload;
  /** What the stream ends with when the connection does. */
  toResult: (error: unknown) => ExecutionResult;
}

/**
 * One subscription at a subgraph, over a connection of its own: when its events are not taken, the connection is not read,
 * and the subgraph pulls no more of the log for it. A connection that many share could only be read on or be given up.
 */
export class RemoteSubscription implements AsyncIterableIterator<ExecutionResult> {
  readonly #toResult: (error: unknown) => ExecutionResult;
  readonly #events: ExecutionResult[] = [];
  #socket: WebSocket | undefined;
  readonly #complete: () => void;
  #isOver = false;
  #wake: () => void = () => undefined;

  constructor({ url, connectionParams, payload, toResult }: RemoteSubscriptionOptions) {
    this.#toResult = toResult;
    const keep = (socket: WebSocket) => {
      this.#socket = socket;
    };
    const client = createClient({
      url: url.replace(/^http/, "ws"),
      webSocketImpl: class extends WebSocket {
        constructor(address: string, protocols: string[]) {
          super(address, protocols);
          keep(this);
        }
      },
      retryAttempts: 0,
      connectionParams,
    });
    this.#complete = client.subscribe<Record<string, unknown>>(payload, {
      next: (result) => this.#receive(result as ExecutionResult),
      error: (error) => {
        this.#receive(this.#toResult(error));
        this.#end();
      },
      complete: () => this.#end(),
    });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<ExecutionResult>> {
    while (this.#events.length === 0 && !this.#isOver) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const value = this.#events.shift();
    if (value === undefined) return { done: true, value: undefined };
    if (this.#events.length === 0 && this.#socket?.isPaused) this.#socket.resume();
    return { done: false, value };
  }

  async return(): Promise<IteratorResult<ExecutionResult>> {
    this.#events.length = 0;
    this.#end();
    this.#complete();
    // Its other end may be paused, and would not hear a close.
    this.#socket?.terminate();
    return { done: true, value: undefined };
  }

  #receive(result: ExecutionResult): void {
    this.#events.push(result);
    if (this.#events.length >= pauseAtEvents && this.#socket?.readyState === WebSocket.OPEN) this.#socket.pause();
    this.#wake();
  }

  #end(): void {
    this.#isOver = true;
    this.#wake();
  }
}
