import type http from "node:http";
import { toAppError } from "../common/errors.js";
import { type Door, openDoor, publicTarget, requestIdOf, sendText } from "../common/http-door.js";
import type { TokenAuthority } from "../common/identity.js";
import { type Logger, maskPath } from "../common/log.js";
import { parseTarget, readCall } from "./call.js";
import { routes, type SlapServices } from "./routes.js";

export interface SlapDoorOptions {
  host: string;
  port: number;
  services: SlapServices;
  tokens: TokenAuthority;
  checkReady: () => Promise<unknown>;
  log: Logger;
}

/** Door 2: the SLAP protocol turned into calls of the same services that GraphQL uses. */
export function startSlap(options: SlapDoorOptions): Promise<Door> {
  const { host, port, checkReady, log } = options;
  return openDoor({
    name: "SLAP",
    host,
    port,
    portVariable: "SLAPGRAPH_SLAP_PORT",
    checkReady,
    log,
    handler: (request, response) => void answer(request, response, options),
  });
}

/** Every request ends here, one way or another, and is logged once. */
async function answer(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  options: SlapDoorOptions,
): Promise<void> {
  const { services, tokens, log } = options;
  const requestId = requestIdOf(request.headers["x-request-id"]);
  const startedAt = performance.now();
  response.setHeader("x-request-id", requestId);
  try {
    const { endpoint } = parseTarget(request.url ?? "/");
    const method = request.method === "GET" || request.method === "POST" ? routes[request.method] : {};
    const route = Object.hasOwn(method, endpoint) ? method[endpoint as keyof typeof method] : undefined;
    // The credential is checked first, so that a stranger learns nothing of what exists, paths included.
    const call = await readCall(request, tokens);
    if (!route) return sendText(response, 404, "NOT_FOUND: there is no such endpoint.\n");
    services.computers
      .noteContact(call.caller)
      .catch((error) => log.warn({ err: error, requestId }, "a contact was not noted"));
    const result = await route(call, services);
    if ("text" in result) sendText(response, 200, result.text);
    else sendXml(response, result.xml);
  } catch (error) {
    const appError = toAppError(error);
    // The client knows 200, 404 and 408; a fault of ours is 503, "try again", whatever it was.
    const status = appError.httpStatus >= 500 ? 503 : appError.httpStatus;
    if (status === 503)
      log.error({ err: appError.cause ?? appError, requestId, target: publicTarget(request) }, "a SLAP call failed");
    if (response.headersSent || response.destroyed) return void response.destroy();
    if (status === 503) response.setHeader("retry-after", "5");
    if (status === 401) response.setHeader("www-authenticate", 'Basic realm="slapgraph"');
    // A body that was not read would be taken for the next request on this connection.
    if (!request.complete) response.setHeader("connection", "close");
    sendText(response, status, `${appError.code}: ${maskPath(appError.message)}\n`);
  } finally {
    const ms = Math.round(performance.now() - startedAt);
    log.debug(
      { requestId, method: request.method, target: publicTarget(request), status: response.statusCode, ms },
      "slap",
    );
  }
}

function sendXml(response: http.ServerResponse, xml: string | Buffer): void {
  const bytes = typeof xml === "string" ? Buffer.from(xml) : xml;
  // Without the charset the client decodes text/xml as ISO-8859-1 (§1.1).
  response.writeHead(200, { "content-type": "text/xml; charset=utf-8", "content-length": bytes.length });
  response.end(bytes);
}
