import http from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { ConfigError } from "./config.js";
import { AppError, toAppError } from "./errors.js";
import { type Logger, maskPath } from "./log.js";
import { metrics, requestSeconds } from "./metrics.js";
import { inRequestSpan } from "./tracing.js";

export type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => unknown;

export interface DoorOptions {
  name: string;
  host: string;
  port: number;
  /** The variable to name when the port is busy. */
  portVariable: string;
  handler: Handler;
  /** The listener's own key and certificate, and the authority whose client certificates it asks for; plain HTTP without. */
  tls?: { key: string; cert: string; ca: string };
  /** Throws while something that the door needs does not answer. */
  checkReady: () => Promise<unknown>;
  /** How many connections it has at a time; what comes beyond is told so, and closed. */
  maxConnections?: number | undefined;
  /** How long a client may take for a request's headers, counted from when it connects. */
  headersTimeoutMs?: number;
  log: Logger;
}

export interface Door {
  url: string;
  server: http.Server;
  /** Whether it has more connections than it may. */
  isFull(): boolean;
  close(): Promise<void>;
}

const drainTimeoutMs = 5_000;
const readyTimeoutMs = 2_000;
/** Beyond the limit so many are still told why; the rest is cut without a word. */
const toldWhy = 100;

/** A node:http server with `/livez`, `/readyz` and `/metrics`; what it closes, it drains first. */
export async function openDoor(options: DoorOptions): Promise<Door> {
  let stopping = false;
  const { maxConnections = 10_000, headersTimeoutMs = 60_000 } = options;
  const sockets = new Set<Socket>();
  const isFull = () => sockets.size > maxConnections;
  let isReady = true;
  /** Said at each change, not at each of the many times that a balancer asks. */
  const noteReadiness = (error?: unknown) => {
    if (error && isReady) options.log.warn({ err: error }, `the ${options.name} door is not ready`);
    if (!error && !isReady) options.log.info(`the ${options.name} door is ready again`);
    isReady = !error;
  };
  const listener: Handler = (request: http.IncomingMessage, response: http.ServerResponse) => {
    const path = (request.url ?? "").split("?", 1)[0];
    if (request.method === "GET" && path === "/livez") return sendText(response, 200, "alive\n");
    if (request.method === "GET" && path === "/readyz")
      return void answerReadiness(options, stopping, response, noteReadiness);
    if (request.method === "GET" && path === "/metrics") return void answerMetrics(response);
    if (stopping) response.setHeader("connection", "close");
    if (isFull()) {
      response.setHeader("connection", "close");
      response.setHeader("retry-after", "5");
      return sendText(response, 503, "CONNECTION_LIMIT: the door has too many connections. Try again later.\n");
    }
    return answerObserved(options, request, response);
  };
  // A connection without a certificate, or with a wrong one, is answered: by the handler, with a code.
  const checking = { connectionsCheckingInterval: Math.min(headersTimeoutMs, 10_000) };
  const server = options.tls
    ? https.createServer(
        {
          ...options.tls,
          ...checking,
          handshakeTimeout: headersTimeoutMs,
          requestCert: true,
          rejectUnauthorized: false,
          minVersion: "TLSv1.2",
        },
        listener,
      )
    : http.createServer(checking, listener);
  // Long uploads and event streams have no total time limit; what stalls is cut by whoever reads it.
  server.requestTimeout = 0;
  server.headersTimeout = headersTimeoutMs;
  server.keepAliveTimeout = 65_000;
  server.maxConnections = maxConnections + toldWhy;
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(describeListenError(error, options)));
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(":") ? `[${options.host}]` : options.host;
  return {
    url: `${options.tls ? "https" : "http"}://${host}:${port}`,
    server,
    isFull,
    close: async () => {
      stopping = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const deadline = setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, drainTimeoutMs);
      await closed;
      clearTimeout(deadline);
    },
  };
}

/**
 * Gives the request its id, before whoever answers it, and counts, traces and logs its end. From here on the header holds
 * the id, whether the client sent one or not.
 */
function answerObserved(options: DoorOptions, request: http.IncomingMessage, response: http.ServerResponse): unknown {
  const { name: door, log, handler } = options;
  const requestId = requestIdOf(request.headers["x-request-id"]);
  request.headers["x-request-id"] = requestId;
  response.setHeader("x-request-id", requestId);
  const method = methods.includes(request.method ?? "") ? (request.method ?? "") : "other";
  const startedAt = performance.now();
  const attributes = { "http.request.method": method, "slapgraph.request_id": requestId };
  return inRequestSpan(`${door} ${method}`, request.headers, attributes, (endSpan) => {
    response.once("close", () => {
      const { statusCode: status } = response;
      const ms = performance.now() - startedAt;
      const isStream = String(response.getHeader("content-type")).startsWith("text/event-stream");
      if (!isStream) requestSeconds.observe({ door, method, status }, ms / 1000);
      endSpan(status);
      if (!log.isLevelEnabled("debug")) return;
      log.debug(
        { requestId, method, target: publicTarget(request), status, ms: Math.round(ms) },
        `the ${door} door answered`,
      );
    });
    return handler(request, response);
  });
}

const methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];

function describeListenError(error: NodeJS.ErrnoException, { host, port, portVariable, name }: DoorOptions): Error {
  if (error.code === "EADDRINUSE") {
    return new ConfigError(
      `${portVariable}: port ${port} on ${host} is in use, the ${name} door cannot open. Free it or choose another.`,
    );
  }
  return new ConfigError(`${portVariable}: the ${name} door cannot listen on ${host}:${port}: ${error.message}`);
}

async function answerReadiness(
  options: DoorOptions,
  stopping: boolean,
  response: http.ServerResponse,
  note: (error?: unknown) => void,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  try {
    if (stopping) throw new Error("stopping");
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(
        () => reject(new AppError("UNAVAILABLE", "A dependency does not answer in time.")),
        readyTimeoutMs,
      );
    });
    await Promise.race([options.checkReady(), timeout]);
    note();
    sendText(response, 200, "ready\n");
  } catch (error) {
    note(error);
    response.setHeader("retry-after", "2");
    sendText(response, 503, `not ready: ${stopping ? "stopping" : toAppError(error).message}\n`);
  } finally {
    clearTimeout(timer);
  }
}

async function answerMetrics(response: http.ServerResponse): Promise<void> {
  const body = await metrics.metrics();
  response.writeHead(200, { "content-type": metrics.contentType });
  response.end(body);
}

export function sendText(response: http.ServerResponse, status: number, text: string, type = "text/plain"): void {
  response.writeHead(status, {
    "content-type": `${type}; charset=utf-8`,
    "content-length": Buffer.byteLength(text),
  });
  response.end(text);
}

/** The id that the logs of every service carry for one call: the client's if it is plain, else a new one. */
export function requestIdOf(header: string | string[] | null | undefined): string {
  return typeof header === "string" && /^[A-Za-z0-9._-]{1,64}$/.test(header) ? header : crypto.randomUUID();
}

/** The request target without a credential in it. */
export function publicTarget(request: http.IncomingMessage): string {
  return maskPath(request.url ?? "");
}
