import { once } from "node:events";
import type http from "node:http";
import { isAsyncIterable } from "@graphql-tools/utils";
import type { ExecutionResult } from "graphql";
import { AppError, type ErrorCode, errorTable } from "../common/errors.js";
import { sendText } from "../common/http-door.js";
import { readBody } from "../common/request-body.js";
import type { Answer, Params } from "./graph.js";
import { farewellMs, stallMs, tooSlow } from "./reader-watch.js";

/** GraphQL over HTTP, and over Server-Sent Events in the form of graphql-sse's distinct connections. */

const eventStream = "text/event-stream";
const responseJson = "application/graphql-response+json";
const json = "application/json";
/** A stream that says nothing for longer is cut by proxies. */
const pingIntervalMs = 12_000;

/** The operation in a request: its target's parameters of a GET, the body of a POST. */
export async function readParams(request: http.IncomingMessage, maxBytes: number): Promise<Params> {
  if (request.method === "GET") return paramsOfTarget(request.url ?? "/");
  if (request.method !== "POST")
    throw new AppError("METHOD_NOT_ALLOWED", "An operation comes by POST, a query by GET too.");
  const body = (await readBody(request, maxBytes)).toString("utf8");
  const params = parsed(body, "The body");
  if (Array.isArray(params))
    throw new AppError("BATCH_REFUSED", "A request has one operation. Send each in a request of its own.");
  if (typeof params !== "object" || params === null)
    throw new AppError("BAD_USER_INPUT", "The body is a JSON object with a `query`.");
  return params;
}

function paramsOfTarget(target: string): Params {
  const { searchParams } = new URL(target, "http://gateway");
  const jsonOf = (name: string) => {
    const text = searchParams.get(name);
    return text ? parsed(text, `\`${name}\` in the target`) : undefined;
  };
  return {
    query: searchParams.get("query"),
    operationName: searchParams.get("operationName"),
    documentId: searchParams.get("documentId"),
    variables: jsonOf("variables"),
    extensions: jsonOf("extensions"),
  };
}

function parsed(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new AppError("BAD_USER_INPUT", `${what} is not JSON.`);
  }
}

/** Sends an answer in the form that the client accepts: a stream as an event stream, the rest as JSON where it may be. */
export async function sendAnswer(
  answer: Answer,
  request: http.IncomingMessage,
  response: http.ServerResponse,
): Promise<void> {
  const accepted = acceptedTypes(request);
  if (isAsyncIterable(answer)) {
    if (!accepted(eventStream)) {
      await answer.return?.();
      throw new AppError(
        "BAD_USER_INPUT",
        `A subscription over HTTP takes \`Accept: ${eventStream}\`, or a WebSocket.`,
      );
    }
    return sendStream(answer, response);
  }
  const type = [json, responseJson].find(accepted);
  if (type === undefined && accepted(eventStream)) return sendStream(only(answer), response);
  sendJson(answer, type ?? json, response);
}

function acceptedTypes({ headers }: http.IncomingMessage): (type: string) => boolean {
  const accept = headers.accept ?? "*/*";
  const all = accept.split(",").map((one) => (one.split(";", 1)[0] ?? "").trim().toLowerCase());
  return (type) => all.some((one) => one === type || one === "*/*" || one === `${type.split("/", 1)[0]}/*`);
}

function sendJson(result: ExecutionResult, type: string, response: http.ServerResponse): void {
  const status = statusOf(result);
  const isUnderstood = type === json && status !== errorTable.METHOD_NOT_ALLOWED.httpStatus;
  sendText(response, isUnderstood ? 200 : status, JSON.stringify(result), type);
}

/** Of what was not executed that of its code. With `application/json` the specification wants 200 for whatever was understood. */
function statusOf({ data, errors }: ExecutionResult): number {
  if (data !== undefined || !errors) return 200;
  const code = errors[0]?.extensions.code as ErrorCode;
  return Object.hasOwn(errorTable, code) ? errorTable[code].httpStatus : 400;
}

async function* only(result: ExecutionResult): AsyncGenerator<ExecutionResult> {
  yield result;
}

/** At the client's pace: a stream that is not read is not pulled, and ends with a reason after a while. */
async function sendStream(results: AsyncIterator<ExecutionResult>, response: http.ServerResponse): Promise<void> {
  const leave = () => void results.return?.().catch(() => undefined);
  response.once("close", leave);
  response.writeHead(200, { "content-type": eventStream, "cache-control": "no-cache", connection: "keep-alive" });
  // At once, because some clients take a stream for open only when something came.
  response.write(comment);
  const ping = setInterval(() => {
    if (!response.writableNeedDrain && !response.writableEnded) response.write(comment);
  }, pingIntervalMs);
  try {
    for (let next = await results.next(); !next.done; next = await results.next()) {
      if (response.destroyed || response.writableEnded) return;
      if (response.write(`event: next\ndata: ${JSON.stringify(next.value)}\n\n`) || (await readsOn(response))) continue;
      leave();
      return sendAway(response);
    }
    response.end(end);
  } finally {
    clearInterval(ping);
  }
}

const comment = ":\n\n";
const end = "event: complete\ndata:\n\n";

/** False when the client has taken nothing for so long that it is not waited for any more. */
async function readsOn(response: http.ServerResponse): Promise<boolean> {
  const stalled = new AbortController();
  const timer = setTimeout(() => stalled.abort(), stallMs);
  try {
    const { signal } = stalled;
    await Promise.race([once(response, "drain", { signal }), once(response, "close", { signal })]);
    return true;
  } catch {
    return !stalled.signal.aborted;
  } finally {
    clearTimeout(timer);
    stalled.abort();
  }
}

/** Lies behind what was not read yet, so that a client that goes on soon learns why its stream ended. */
function sendAway(response: http.ServerResponse): void {
  const { code, message } = tooSlow();
  const result = JSON.stringify({ errors: [{ message, extensions: { code, retryable: true } }] });
  response.end(`event: next\ndata: ${result}\n\n${end}`);
  setTimeout(() => response.destroy(), farewellMs).unref();
}
