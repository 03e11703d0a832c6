import { createClient } from "graphql-ws";
import WebSocket from "ws";

export interface StreamEvent<Change> {
  cursor: string;
  at?: string;
  change: Change | null;
}

/** What a client of a subscription has received, in order, and the cursor with which it resumes. */
export class Subscriber<Change> {
  readonly changes: Change[] = [];
  /** The cursor of each change. */
  readonly cursors: string[] = [];
  readonly errors: unknown[] = [];
  cursor: string | null = null;
  isOpen = false;
  /** Resolves when the stream that is followed has ended, however it did. */
  ended: Promise<void> = Promise.resolve();
  #close: () => void = () => undefined;

  /** Ends the transport without a word, as a lost connection does. */
  cut(): void {
    this.#close();
    this.isOpen = false;
  }

  followWebSocket(url: string, token: string, field: string, query: string): this {
    let socket: WebSocket | undefined;
    const client = createClient({
      url: `${url.replace("http", "ws")}/graphql`,
      webSocketImpl: class extends WebSocket {
        constructor(address: string, protocols: string[]) {
          super(address, protocols);
          socket = this;
        }
      },
      retryAttempts: 0,
      connectionParams: { authorization: `Bearer ${token}` },
    });
    let isCut = false;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    client.subscribe(
      { query, variables: { after: this.cursor } },
      {
        next: (result) => {
          if (!isCut) this.#receive(field, result);
        },
        error: (error) => {
          if (!isCut) this.errors.push(error);
          this.isOpen = false;
          resolve();
        },
        complete: () => {
          this.isOpen = false;
          resolve();
        },
      },
    );
    this.#close = () => {
      isCut = true;
      socket?.terminate();
    };
    return this;
  }

  followEventStream(url: string, token: string, field: string, query: string): this {
    const abort = new AbortController();
    this.#close = () => abort.abort();
    this.ended = this.#readEventStream(url, token, field, query, abort.signal).catch((error) => {
      if (!abort.signal.aborted) this.errors.push(error);
      this.isOpen = false;
    });
    return this;
  }

  async #readEventStream(url: string, token: string, field: string, query: string, signal: AbortSignal): Promise<void> {
    const response = await fetch(`${url}/graphql`, {
      method: "POST",
      signal,
      headers: { accept: "text/event-stream", "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify({ query, variables: { after: this.cursor } }),
    });
    let buffered = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      buffered += decoder.decode(chunk, { stream: true });
      for (let end = buffered.indexOf("\n\n"); end !== -1; end = buffered.indexOf("\n\n")) {
        const data = /^data: (.*)$/m.exec(buffered.slice(0, end))?.[1];
        buffered = buffered.slice(end + 2);
        if (data && !signal.aborted) this.#receive(field, JSON.parse(data));
      }
    }
    this.isOpen = false;
  }

  #receive(
    field: string,
    result: { data?: Record<string, unknown> | null | undefined; errors?: readonly unknown[] | undefined },
  ): void {
    if (result.errors) this.errors.push(...result.errors);
    const event = result.data?.[field] as StreamEvent<Change> | undefined;
    if (!event) return;
    this.isOpen = true;
    this.cursor = event.cursor;
    if (!event.change) return;
    this.changes.push(event.change);
    this.cursors.push(event.cursor);
  }
}
