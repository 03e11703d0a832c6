import type http from "node:http";
import { isAsyncIterable } from "@graphql-tools/utils";
import { AppError, toAppError } from "../common/errors.js";
import { type Door, openDoor, requestIdOf, sendText } from "../common/http-door.js";
import type { TokenAuthority } from "../common/identity.js";
import type { Logger } from "../common/log.js";
import type { Subgraph } from "../common/subgraph.js";
import { readSupergraph } from "../schema/committed.js";
import type { SubgraphSdl } from "./compose.js";
import { Graph } from "./graph.js";
import { graphiqlPage } from "./graphiql.js";
import { readParams, sendAnswer } from "./http.js";
import { defaultLimits, type GatewayLimits } from "./limits/gateway-limits.js";
import { checkTrustedDocuments, type TrustedDocuments } from "./limits/trusted-documents.js";
import { nodeExecutor, nodeName, nodeSdl } from "./node.subgraph.js";
import { observed } from "./observed.js";
import type { RemoteExecutor } from "./remote-executor.js";
import { findEntities, localExecutor, type RemoteSubgraph, type SubgraphExecutor } from "./transport.js";
import { serveWebSocket } from "./websocket.js";

export interface GatewayOptions {
  host: string;
  port: number;
  tokens: TokenAuthority;
  /** Those of this process, or those at a URL. */
  subgraphs: (Subgraph | RemoteSubgraph)[];
  checkReady: () => Promise<unknown>;
  limits?: GatewayLimits;
  maxConnections?: number | undefined;
  /** The only ones that are answered, where they are given. */
  trustedDocuments?: TrustedDocuments | undefined;
  log: Logger;
}

/** Door 1: one graph out of the subgraphs, over HTTP, Server-Sent Events and WebSocket. */
export async function startGateway(options: GatewayOptions): Promise<Door> {
  const { tokens, trustedDocuments, log } = options;
  const limits = options.limits ?? defaultLimits;
  const executors = new Map<string, SubgraphExecutor>();
  const remotes: RemoteExecutor[] = [];
  for (const subgraph of options.subgraphs) {
    let execute = "url" in subgraph ? null : localExecutor(subgraph, log);
    if ("url" in subgraph) {
      // With an HTTP client, which a gateway beside its subgraphs has no use for.
      const { remoteExecutor } = await import("./remote-executor.js");
      const remote = remoteExecutor(subgraph);
      remotes.push(remote);
      execute = remote.execute;
    }
    if (execute) executors.set(subgraph.name, observed(subgraph.name, execute));
  }
  const executorOf = (name: string) => {
    const executor = executors.get(name);
    if (!executor) throw new AppError("INTERNAL", `There is no subgraph ${name}.`);
    return executor;
  };
  executors.set(
    nodeName,
    nodeExecutor((owner, references, context) => findEntities(owner, executorOf(owner), references, context), log),
  );

  const graph = new Graph({
    supergraph: await supergraphOf([...options.subgraphs, { name: nodeName, sdl: nodeSdl }]),
    executorOf,
    limits,
    trustedDocuments,
    log,
  });
  if (trustedDocuments) checkTrustedDocuments(trustedDocuments, graph.documents.schema);
  const door = await openDoor({
    name: "GraphQL",
    host: options.host,
    port: options.port,
    portVariable: "SLAPGRAPH_GATEWAY_PORT",
    checkReady: () => Promise.all([options.checkReady(), ...remotes.map((remote) => remote.checkReady())]),
    maxConnections: options.maxConnections,
    log,
    handler: (request, response) => void answer(request, response),
  });
  const webSocket = serveWebSocket(door, tokens, limits, (params, context) => graph.answer(params, context), log);
  const streams = new Set<http.ServerResponse>();

  async function answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const requestId = requestIdOf(request.headers["x-request-id"]);
    response.setHeader("x-request-id", requestId);
    try {
      const path = (request.url ?? "/").split("?", 1)[0];
      if (path === "/" && request.method === "GET") return void response.writeHead(302, { location: "/graphql" }).end();
      if (path !== "/graphql") throw new AppError("NOT_FOUND", "The API is at /graphql.");
      if (wantsPage(request)) return sendText(response, 200, await graphiqlPage(), "text/html");
      const authorization = request.headers.authorization ?? "";
      const caller = await tokens.verifyAuthorization(authorization);
      const params = await readParams(request, limits.bodyBytes);
      const result = await graph.answer(params, { caller, authorization, requestId }, request.method === "POST");
      if (isAsyncIterable(result)) {
        streams.add(response);
        response.once("close", () => streams.delete(response));
      }
      await sendAnswer(result, request, response);
    } catch (error) {
      refuse(request, response, error, requestId);
    }
  }

  function refuse(
    request: http.IncomingMessage,
    response: http.ServerResponse,
    error: unknown,
    requestId: string,
  ): void {
    // A client that left in the middle of its body waits for no answer, and is no fault of ours.
    if (request.destroyed && !request.complete) return void response.destroy();
    const appError = toAppError(error);
    if (appError.httpStatus >= 500 && !response.destroyed)
      log.error({ err: appError.cause ?? appError, requestId }, "a request failed");
    if (response.headersSent || response.destroyed) return void response.destroy();
    const extensions = { code: appError.code, ...(appError.code === "INTERNAL" ? { requestId } : {}) };
    const body = JSON.stringify({ errors: [{ message: appError.message, extensions }] });
    if (!request.complete) response.setHeader("connection", "close");
    sendText(response, appError.httpStatus, body, "application/json");
  }

  return {
    ...door,
    close: async () => {
      const closed = door.close();
      await webSocket.close();
      // Event streams have no end of their own; their clients resume elsewhere with the last cursor.
      for (const stream of streams) stream.end();
      await closed;
    },
  };
}

/** As committed where it is of the same subgraphs. Composing it takes longer than all else that a gateway does at its start. */
async function supergraphOf(subgraphs: readonly SubgraphSdl[]): Promise<string> {
  const committed = await readSupergraph(subgraphs);
  if (committed !== null) return committed;
  const { composeSupergraph } = await import("./compose.js");
  return composeSupergraph(subgraphs);
}

function wantsPage(request: http.IncomingMessage): boolean {
  return request.method === "GET" && (request.headers.accept ?? "").includes("text/html");
}
