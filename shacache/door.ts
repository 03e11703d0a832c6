import type http from "node:http";
import type { AuditTrail } from "../common/audit.js";
import { toAppError } from "../common/errors.js";
import { publicTarget, requestIdOf, sendText } from "../common/http-door.js";
import type { Logger } from "../common/log.js";
import { type DoubleDoor, openDoubleDoor } from "../common/tls-door.js";
import type { ShacacheAccess } from "./access.js";
import type { ShacacheServices } from "./context.js";
import { answerEarly, drain } from "./request-body.js";
import { route } from "./routes.js";
import { parseTarget } from "./target.js";

export interface ShacacheDoorOptions extends ShacacheAccess {
  host: string;
  port: number;
  /** Where nodes upload with client certificates; null where there is no such listener. */
  tlsPort: number | null;
  services: ShacacheServices;
  audit: AuditTrail;
  maxConnections?: number | undefined;
  checkReady: () => Promise<unknown>;
  log: Logger;
}

/** Door 3: blobs at `/shacache`, the directory at `/shadir`. */
export function startShacache(options: ShacacheDoorOptions): Promise<DoubleDoor> {
  const { host, port, tlsPort, maxConnections, checkReady, certificates, log } = options;
  const handler = (request: http.IncomingMessage, response: http.ServerResponse) =>
    void answer(request, response, options);
  return openDoubleDoor(
    { name: "Shacache", host, port, portVariable: "SLAPGRAPH_SHACACHE_PORT", maxConnections, checkReady, log, handler },
    { port: tlsPort, portVariable: "SLAPGRAPH_SHACACHE_TLS_PORT", certificates, names: [] },
  );
}

async function answer(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  options: ShacacheDoorOptions,
): Promise<void> {
  const { services, log } = options;
  const requestId = requestIdOf(request.headers["x-request-id"]);
  try {
    await route(request, response, services, options, options.audit, requestId);
  } catch (error) {
    // A client that left waits for no answer, and an upload that broke off is no fault of ours.
    if (request.destroyed && !request.complete) return void response.destroy();
    const appError = toAppError(error);
    // A quota that is used up has a status of its own among the server's, and is the caller's business.
    if (appError.httpStatus >= 500 && appError.code !== "QUOTA_EXCEEDED") {
      log.error(
        { err: appError.cause ?? appError, requestId, target: publicTarget(request) },
        "a Shacache call failed",
      );
    }
    if (response.headersSent || response.destroyed) return void response.destroy();
    if (!request.complete) {
      await drain(request);
      response.setHeader("connection", "close");
    }
    if (response.destroyed) return;
    if (appError.httpStatus === 503) response.setHeader("retry-after", "5");
    if (appError.code === "RATE_LIMITED")
      response.setHeader("retry-after", String(appError.details?.retryAfterSeconds ?? 5));
    if (appError.httpStatus === 401) response.setHeader("www-authenticate", 'Basic realm="slapgraph"');
    const isBlobRead = request.method === "GET" && parseTarget(request.url ?? "/").store === "shacache";
    // After a cut the client appends whatever comes to the blob, an error's text too (part 2, 1).
    const text = `${appError.code}: ${appError.message}\n`;
    if (isBlobRead || request.method === "HEAD") response.writeHead(appError.httpStatus, { "content-length": 0 }).end();
    else if (request.complete) sendText(response, appError.httpStatus, text);
    else await answerEarly(request, response, appError.httpStatus, text);
  }
}
