import type http from "node:http";
import { createGatewayRuntime } from "@graphql-hive/gateway-runtime";
import { unifiedGraphHandler } from "@graphql-hive/router-runtime";
import { AppError, toAppError } from "../common/errors.js";
import { type Door, openDoor, requestIdOf } from "../common/http-door.js";
import type { TokenAuthority } from "../common/identity.js";
import type { Logger } from "../common/log.js";
import { readBody } from "../common/request-body.js";
import type { Subgraph } from "../common/subgraph.js";
import { composeSupergraph } from "./compose.js";
import { executeEachEvent } from "./each-event.js";
import { publicErrors, withoutStatus } from "./errors.plugin.js";
import { graphiqlPage } from "./graphiql.js";
import { defaultLimits, type GatewayLimits } from "./limits/gateway-limits.js";
import { operationLimits } from "./limits/operation-limits.plugin.js";
import { checkTrustedDocuments, type TrustedDocuments } from "./limits/trusted-documents.js";
import { onlyTrusted } from "./limits/trusted-documents.plugin.js";
import { nodeExecutor, nodeName, nodeSdl } from "./node.subgraph.js";
import { observed } from "./observed.js";
import {
  findEntities,
  type GatewayContext,
  localExecutor,
  type RemoteSubgraph,
  remoteExecutor,
  type SubgraphExecutor,
} from "./transport.js";
import { checkTarget, isEventStream, sendWebResponse, toWebRequest } from "./web.js";
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
  const remotes = options.subgraphs.flatMap((subgraph) => {
    if (!("url" in subgraph)) {
      executors.set(subgraph.name, observed(subgraph.name, localExecutor(subgraph, log)));
      return [];
    }
    const remote = remoteExecutor(subgraph);
    executors.set(subgraph.name, observed(subgraph.name, remote.execute));
    return [remote];
  });
  const executorOf = (name: string) => {
    const executor = executors.get(name);
    if (!executor) throw new AppError("INTERNAL", `There is no subgraph ${name}.`);
    return executor;
  };
  executors.set(
    nodeName,
    nodeExecutor((owner, references, context) => findEntities(owner, executorOf(owner), references, context), log),
  );

  const supergraph = composeSupergraph([...options.subgraphs, { name: nodeName, sdl: nodeSdl }]);
  const transport = {
    getSubgraphExecutor: ({ subgraphName }: { subgraphName: string }) => {
      const executor = executorOf(subgraphName);
      return async (request: HiveRequest) => {
        const context = request.context as GatewayContext;
        const isSubscription = request.operationType === "subscription";
        const step = isSubscription ? context.subscriptionStep : undefined;
        if (step?.event) return step.event;
        const result = await executor({
          document: request.document,
          variables: request.variables ?? {},
          ...(request.operationName ? { operationName: request.operationName } : {}),
          isSubscription,
          context,
        });
        if (!step) return result;
        step.opened = result;
        return { data: null };
      };
    },
  };
  const runtime = createGatewayRuntime<GatewayContext>({
    supergraph,
    unifiedGraphHandler: handleUnifiedGraph as never,
    transports: { http: transport, ws: transport } as never,
    plugins: () => [
      ...(trustedDocuments ? [onlyTrusted(trustedDocuments) as never] : []),
      operationLimits(limits) as never,
      publicErrors(limits.introspection, log) as never,
    ],
    landingPage: false,
    graphiql: false,
    logging: false,
    maskedErrors: false,
    batching: false,
    requestId: false,
  });
  // A WebSocket client that came before this would be told that there is no schema.
  const schema = await runtime.getSchema();
  if (trustedDocuments) checkTrustedDocuments(trustedDocuments, schema);
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
  const webSocket = serveWebSocket(
    door,
    tokens,
    limits,
    async (params, context) => {
      const request = new Request("http://gateway/graphql", { method: "POST" });
      const { getResultForParams } = runtime as never as {
        getResultForParams: (input: unknown, context: unknown) => Promise<unknown>;
      };
      return withoutStatus(await getResultForParams({ params, request }, { ...context, params, request }));
    },
    log,
  );

  const streams = new Set<http.ServerResponse>();

  async function answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const requestId = requestIdOf(request.headers["x-request-id"]);
    response.setHeader("x-request-id", requestId);
    try {
      const path = (request.url ?? "/").split("?", 1)[0];
      if (path === "/" && request.method === "GET") return void response.writeHead(302, { location: "/graphql" }).end();
      if (path !== "/graphql") throw new AppError("NOT_FOUND", "The API is at /graphql.");
      if (wantsPage(request)) return sendPage(response);
      const authorization = request.headers.authorization ?? "";
      const caller = await tokens.verifyAuthorization(authorization);
      const gone = new AbortController();
      response.once("close", () => gone.abort());
      checkTarget(request.url ?? "/");
      const body =
        request.method === "GET" || request.method === "HEAD" ? null : await readBody(request, limits.bodyBytes);
      if (body?.find((byte) => byte > 0x20) === 0x5b)
        throw new AppError("BATCH_REFUSED", "A request has one operation. Send each in a request of its own.");
      const webRequest = toWebRequest(request, body, gone.signal);
      const result = await runtime.fetch(webRequest, { caller, authorization, requestId } as never);
      if (isEventStream(result)) {
        streams.add(response);
        response.once("close", () => streams.delete(response));
      }
      await sendWebResponse(result, response);
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
    const appError = toAppError(error);
    if (appError.httpStatus >= 500 && !response.destroyed)
      log.error({ err: appError.cause ?? appError, requestId }, "a request failed");
    if (response.headersSent || response.destroyed) return void response.destroy();
    const extensions = { code: appError.code, ...(appError.code === "INTERNAL" ? { requestId } : {}) };
    const body = JSON.stringify({ errors: [{ message: appError.message, extensions }] });
    if (!request.complete) response.setHeader("connection", "close");
    response.writeHead(appError.httpStatus, {
      "content-type": "application/json; charset=utf-8",
      "content-length": Buffer.byteLength(body),
    });
    response.end(body);
  }

  return {
    ...door,
    close: async () => {
      const closed = door.close();
      await webSocket.close();
      // Event streams have no end of their own; their clients resume elsewhere with the last cursor.
      for (const stream of streams) stream.end();
      await closed;
      await runtime[Symbol.asyncDispose]();
    },
  };
}

async function handleUnifiedGraph(options: Parameters<typeof unifiedGraphHandler>[0]) {
  const { executor, ...graph } = await unifiedGraphHandler(options);
  return { ...graph, ...(executor ? { executor: executeEachEvent(executor) } : {}) };
}

interface HiveRequest {
  document: import("graphql").DocumentNode;
  variables?: Record<string, unknown>;
  operationName?: string;
  operationType?: string;
  context?: unknown;
}

function wantsPage(request: http.IncomingMessage): boolean {
  return request.method === "GET" && (request.headers.accept ?? "").includes("text/html");
}

function sendPage(response: http.ServerResponse): void {
  const page = graphiqlPage();
  response.writeHead(200, { "content-type": "text/html; charset=utf-8", "content-length": Buffer.byteLength(page) });
  response.end(page);
}
