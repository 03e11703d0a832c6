import type http from "node:http";
import type { AuditTrail } from "../common/audit.js";
import { toAppError } from "../common/errors.js";
import { publicTarget, requestIdOf, sendText } from "../common/http-door.js";
import { type Logger, maskPath } from "../common/log.js";
import { type DoubleDoor, openDoubleDoor } from "../common/tls-door.js";
import type { LivenessThresholds } from "../subgraphs/computer/computer/computer.state.js";
import { answerAudited } from "./audited.js";
import { type Credentials, parseTarget, readCall } from "./call.js";
import { answerHateoas, isHateoas } from "./hateoas.js";
import { isJsonRpc, methodOf, refuseJsonRpc } from "./json-rpc.js";
import { watchLiveness } from "./liveness-watch.js";
import { register, registerEndpoint } from "./register.js";
import { type Route, routes, type SlapAnswer, type SlapServices } from "./routes.js";

/** A poll writes nothing as long as this, so that a fleet's polls are reads. */
const maxContactIntervalMs = 60_000;

export interface SlapDoorOptions extends Credentials {
  host: string;
  port: number;
  /** Where nodes come in with client certificates; null where there is no such listener. */
  tlsPort: number | null;
  services: SlapServices;
  audit: AuditTrail;
  /** When a node that is not heard of is SUSPECT, and when LOST. */
  liveness: LivenessThresholds;
  maxConnections?: number | undefined;
  checkReady: () => Promise<unknown>;
  log: Logger;
}

/** Door 2: the SLAP protocol turned into calls of the same services that GraphQL uses. */
export async function startSlap(options: SlapDoorOptions): Promise<DoubleDoor> {
  const { host, port, tlsPort, maxConnections, checkReady, certificates, publicUrl, services, liveness, log } = options;
  const handler = (request: http.IncomingMessage, response: http.ServerResponse) =>
    void answer(request, response, options);
  const door = await openDoubleDoor(
    { name: "SLAP", host, port, portVariable: "SLAPGRAPH_SLAP_PORT", maxConnections, checkReady, log, handler },
    {
      port: tlsPort,
      portVariable: "SLAPGRAPH_SLAP_TLS_PORT",
      certificates,
      names: publicUrl === undefined ? [] : [new URL(publicUrl).hostname],
    },
  );
  const watch = watchLiveness(services.computers, liveness, log);
  return { ...door, close: async () => void (await Promise.all([watch.close(), door.close()])) };
}

/** Every request ends here, one way or another, and what failed is logged once. */
async function answer(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  options: SlapDoorOptions,
): Promise<void> {
  const { services, audit, log } = options;
  const requestId = requestIdOf(request.headers["x-request-id"]);
  response.setHeader("x-request-id", requestId);
  const { endpoint } = parseTarget(request.url ?? "/");
  try {
    if (request.method === "POST" && endpoint === registerEndpoint) {
      return sendAnswer(response, await register(request, services, audit, requestId));
    }
    // The credential is checked first, so that a stranger learns nothing of what exists, paths included.
    const call = await readCall(request, options);
    const route = routeOf(request.method, endpoint);
    if (!route) return sendText(response, 404, "NOT_FOUND: there is no such endpoint.\n");
    services.computers
      .noteContact(call.caller, Math.min(maxContactIntervalMs, options.liveness.suspectAfterMs / 4))
      .catch((error) => log.warn({ err: error, requestId }, "a contact was not noted"));
    const { method } = request;
    sendAnswer(response, await answerAudited(route, call, services, { method, id: requestId }, audit));
  } catch (error) {
    // A client that left in the middle of its body waits for no answer, and is no fault of ours.
    if (request.destroyed && !request.complete) return void response.destroy();
    const appError = toAppError(error);
    // The client knows 200, 404 and 408; a fault of ours is 503, "try again", whatever it was.
    const isFault = appError.httpStatus >= 500;
    if (isFault)
      log.error({ err: appError.cause ?? appError, requestId, target: publicTarget(request) }, "a SLAP call failed");
    if (response.headersSent || response.destroyed) return void response.destroy();
    if (isFault) response.setHeader("retry-after", "5");
    if (appError.httpStatus === 401) response.setHeader("www-authenticate", 'Basic realm="slapgraph"');
    // A body that was not read would be taken for the next request on this connection.
    if (!request.complete) response.setHeader("connection", "close");
    if (isJsonRpc(endpoint)) {
      // Upstream's error document has no place for it.
      response.setHeader("x-error-code", appError.code);
      return sendAnswer(response, refuseJsonRpc(appError));
    }
    sendText(response, isFault ? 503 : appError.httpStatus, `${appError.code}: ${maskPath(appError.message)}\n`);
  }
}

/** XML endpoints by their name, JSON-RPC methods and hypermedia by their prefix. Anything else is 404, never a page (§1.1). */
function routeOf(method: string | undefined, endpoint: string): Route | undefined {
  if (method === "POST" && isJsonRpc(endpoint)) return methodOf(endpoint);
  if (method === "GET" && isHateoas(endpoint)) return answerHateoas;
  if (method !== "GET" && method !== "POST") return undefined;
  return Object.hasOwn(routes[method], endpoint) ? routes[method][endpoint] : undefined;
}

function sendAnswer(response: http.ServerResponse, answer: SlapAnswer): void {
  if ("text" in answer) sendText(response, 200, answer.text);
  else if ("json" in answer) {
    sendBytes(response, answer.status ?? 200, "application/json", Buffer.from(JSON.stringify(answer.json)));
  } else {
    const bytes = typeof answer.xml === "string" ? Buffer.from(answer.xml) : answer.xml;
    // Without the charset the client decodes text/xml as ISO-8859-1 (§1.1).
    sendBytes(response, 200, "text/xml; charset=utf-8", bytes);
  }
}

function sendBytes(response: http.ServerResponse, status: number, type: string, bytes: Buffer): void {
  response.writeHead(status, { "content-type": type, "content-length": bytes.length });
  response.end(bytes);
}
