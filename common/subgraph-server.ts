import type http from "node:http";
import { ApolloServer, HeaderMap } from "@apollo/server";
import {
  ApolloServerPluginInlineTraceDisabled,
  ApolloServerPluginLandingPageDisabled,
} from "@apollo/server/plugin/disabled";
import type { ExecutionArgs } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { WebSocketServer } from "ws";
import { AppError, toAppError } from "./errors.js";
import { type Door, openDoor, requestIdOf } from "./http-door.js";
import type { Caller, TokenAuthority } from "./identity.js";
import type { Logger } from "./log.js";
import { readBody } from "./request-body.js";
import { type ServiceKey, serviceHeader } from "./service-key.js";
import { type Subgraph, type SubgraphContext, subscribeFresh, toPublicError, withPublicErrors } from "./subgraph.js";

export interface SubgraphServerOptions {
  subgraph: Subgraph;
  tokens: TokenAuthority;
  serviceKey: ServiceKey;
  host: string;
  port: number;
  portVariable: string;
  log: Logger;
  checkReady: () => Promise<unknown>;
}

/** Longer than the gateway waits for a client that reads nothing, whose stream it does not read meanwhile. */
const keepAliveMs = 60_000;
const maxBodyBytes = 4 * 1024 * 1024;

/**
 * A subgraph on its own: Apollo Server over HTTP, subscriptions over WebSocket. It answers the gateway only, and verifies the
 * caller's token itself.
 */
export async function serveSubgraph(options: SubgraphServerOptions): Promise<Door> {
  const { subgraph, tokens, serviceKey, log } = options;
  const apollo = new ApolloServer<SubgraphContext>({
    schema: subgraph.schema,
    introspection: true,
    csrfPrevention: false,
    stopOnTerminationSignals: false,
    includeStacktraceInErrorResponses: false,
    plugins: [
      ApolloServerPluginInlineTraceDisabled(),
      ApolloServerPluginLandingPageDisabled(),
      // Not formatError, which does not know the request whose id the log and the answer have.
      {
        requestDidStart: async () => ({
          willSendResponse: async ({ response, errors, contextValue }) => {
            if (response.body.kind !== "single" || !errors) return;
            const { singleResult } = response.body;
            singleResult.errors = errors.map((error) =>
              toPublicError(error, subgraph.name, contextValue.requestId, log).toJSON(),
            );
          },
        }),
      },
    ],
  });
  await apollo.start();
  const door = await openDoor({
    name: `${subgraph.name} subgraph`,
    host: options.host,
    port: options.port,
    portVariable: options.portVariable,
    checkReady: options.checkReady,
    log,
    handler: (request, response) => void answer(request, response),
  });
  const sockets = new WebSocketServer({
    server: door.server,
    path: "/graphql",
    maxPayload: maxBodyBytes,
    perMessageDeflate: false,
  });
  const running = useServer<Record<string, unknown>, { caller?: Caller }>(
    {
      schema: subgraph.schema,
      onConnect: async (ctx) => {
        const { authorization, service } = ctx.connectionParams ?? {};
        if (!serviceKey.isGood(service)) return false;
        try {
          ctx.extra.caller = await tokens.verifyAuthorization(typeof authorization === "string" ? authorization : null);
          return true;
        } catch {
          return false;
        }
      },
      context: (ctx) => contextOf(ctx.extra.caller, requestIdOf(String(ctx.connectionParams?.requestId ?? ""))),
      subscribe: (args) => {
        const { caller, requestId } = args.contextValue as SubgraphContext;
        const finish = (result: Parameters<typeof withPublicErrors>[0]) =>
          withPublicErrors(result, subgraph.name, requestId, log);
        return subscribeFresh(args as ExecutionArgs, () => subgraph.createContext(caller, requestId), finish) as never;
      },
    },
    sockets,
    keepAliveMs,
  );

  function contextOf(caller: Caller | undefined, requestId: string): SubgraphContext {
    if (!caller) throw new AppError("UNAUTHENTICATED", "No token came with the connection.");
    return subgraph.createContext(caller, requestId);
  }

  async function answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const requestId = requestIdOf(request.headers["x-request-id"]);
    try {
      if ((request.url ?? "").split("?", 1)[0] !== "/graphql")
        throw new AppError("NOT_FOUND", "The subgraph is at /graphql.");
      if (!serviceKey.isGood(request.headers[serviceHeader]))
        throw new AppError("FORBIDDEN", "A subgraph answers the gateway only.");
      const caller = await tokens.verifyAuthorization(request.headers.authorization);
      const headers = new HeaderMap();
      for (const [name, value] of Object.entries(request.headers))
        if (value !== undefined) headers.set(name, String(value));
      const {
        body,
        headers: given,
        status,
      } = await apollo.executeHTTPGraphQLRequest({
        httpGraphQLRequest: {
          method: (request.method ?? "GET").toUpperCase(),
          headers,
          search: new URL(request.url ?? "/", "http://subgraph").search,
          body: request.method === "POST" ? await readJson(request) : "",
        },
        context: async () => subgraph.createContext(caller, requestId),
      });
      if (body.kind !== "complete") throw new AppError("BAD_USER_INPUT", "Incremental delivery is not served.");
      response.writeHead(status ?? 200, {
        ...Object.fromEntries(given),
        "content-length": Buffer.byteLength(body.string),
      });
      response.end(body.string);
    } catch (error) {
      refuse(response, toAppError(error), requestId);
    }
  }

  function refuse(response: http.ServerResponse, error: AppError, requestId: string): void {
    if (error.httpStatus >= 500)
      log.error({ err: error.cause ?? error, requestId, subgraph: subgraph.name }, "a request failed");
    if (response.headersSent || response.destroyed) return void response.destroy();
    const body = JSON.stringify({ errors: [{ message: error.message, extensions: { code: error.code } }] });
    response.writeHead(error.httpStatus, {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
    });
    response.end(body);
  }

  return {
    ...door,
    close: async () => {
      const closed = door.close();
      for (const socket of sockets.clients) socket.close(1001, "Going away");
      await running.dispose();
      await closed;
      await apollo.stop();
    },
  };
}

async function readJson(request: http.IncomingMessage): Promise<unknown> {
  const body = await readBody(request, maxBodyBytes);
  try {
    return JSON.parse(body.toString("utf8"));
  } catch (error) {
    throw new AppError("BAD_USER_INPUT", `The body is not JSON: ${(error as Error).message}`);
  }
}
