import { createClient } from "graphql-ws";
import WebSocket from "ws";

/** One operation as a client sends it, and what came back first: over each transport of the gateway the same. */
export interface Operation {
  query?: string;
  variables?: Record<string, unknown>;
  extensions?: Record<string, unknown>;
}

export interface Answer {
  data?: unknown;
  errors?: { message: string; extensions?: { code?: string } }[];
}

export type Transport = (url: string, token: string, operation: Operation) => Promise<Answer>;

export const transports: Record<string, Transport> = {
  "HTTP POST": async (url, token, operation) => {
    const response = await fetch(`${url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
      body: JSON.stringify(operation),
    });
    return (await response.json()) as Answer;
  },

  "HTTP GET": async (url, token, operation) => {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(operation))
      search.set(name, typeof value === "string" ? value : JSON.stringify(value));
    const headers = { accept: "application/json", authorization: `Bearer ${token}` };
    const response = await fetch(`${url}/graphql?${search}`, { headers });
    return (await response.json()) as Answer;
  },

  "event stream": async (url, token, operation) => {
    const stop = new AbortController();
    const response = await fetch(`${url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "text/event-stream", authorization: `Bearer ${token}` },
      body: JSON.stringify(operation),
      signal: stop.signal,
    });
    if (!response.headers.get("content-type")?.startsWith("text/event-stream"))
      return (await response.json()) as Answer;
    const reader = response.body?.getReader();
    for (let text = ""; ; ) {
      const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
      text += Buffer.from(value ?? []).toString("utf8");
      const [, data] = /^data: (.+)\n\n/m.exec(text) ?? [];
      if (data === undefined && !done) continue;
      stop.abort();
      if (data === undefined) throw new Error(`The stream ended with: ${text}`);
      return JSON.parse(data) as Answer;
    }
  },

  WebSocket: (url, token, operation) =>
    new Promise((resolve, reject) => {
      const client = createClient({
        url: `${url.replace("http", "ws")}/graphql`,
        webSocketImpl: WebSocket,
        retryAttempts: 0,
        connectionParams: { authorization: `Bearer ${token}` },
      });
      const settle = (answer: Answer) => {
        resolve(answer);
        void client.dispose();
      };
      client.subscribe({ query: "", ...operation } as never, {
        next: (result) => settle(result as Answer),
        // graphql-ws gives an operation's errors as a list, and a connection's end as one thing.
        error: (error) => (Array.isArray(error) ? settle({ errors: error }) : reject(error)),
        complete: () => reject(new Error("complete without an answer")),
      });
    }),
};

export function codeOf({ errors }: Answer): string | undefined {
  return errors?.[0]?.extensions?.code;
}
