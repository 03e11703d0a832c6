import type http from "node:http";
import { GraphQLError, parse } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { type WebSocket, WebSocketServer } from "ws";
import { toAppError } from "../common/errors.js";
import { type Door, requestIdOf } from "../common/http-door.js";
import type { TokenAuthority } from "../common/identity.js";
import type { Logger } from "../common/log.js";
import type { Answer, Params } from "./graph.js";
import type { GatewayLimits } from "./limits/gateway-limits.js";
import { RunningOperations } from "./limits/running-operations.js";
import { ReaderWatch } from "./reader-watch.js";
import type { GatewayContext } from "./transport.js";

interface Connection extends Record<PropertyKey, unknown> {
  socket: WebSocket;
  request: http.IncomingMessage;
  context?: GatewayContext;
  operations?: RunningOperations;
}

/** How one operation of a connection is answered. */
export type AnswerOperation = (params: Params, context: GatewayContext) => Promise<Answer>;

const checkIntervalMs = 500;
const tooMany = new GraphQLError("Too many operations at a time on this connection.", {
  extensions: { code: "SUBSCRIPTION_LIMIT" },
});
/** graphql-ws wants a document to see which function to call; the graph behind both parses the real one. */
const anyOperation = parse("{ __typename }");
/** What a client has not read of its answers before no more is read of what it asks. */
const maxUnreadBytes = 256 * 1024;
/** graphql-ws would cut who does not answer its pings without a word. */
const withoutPings = 0;

/**
 * graphql-transport-ws at `/graphql`. The token comes in the connection's init message, or in the upgrade's Authorization
 * header; a connection whose token stops being good is closed with 4403 within a second, one that nobody reads with 1013.
 */
export function serveWebSocket(
  door: Door,
  tokens: TokenAuthority,
  limits: Pick<GatewayLimits, "bodyBytes" | "subscriptionsPerCaller">,
  answer: AnswerOperation,
  log: Logger,
): { close: () => Promise<void> } {
  const sockets = new WebSocketServer({
    server: door.server,
    path: "/graphql",
    maxPayload: limits.bodyBytes,
    // A small frame may be a large message: no door takes compressed ones.
    perMessageDeflate: false,
    // One message in a turn of the loop: thousands that came at once wait their turns among everybody's.
    allowSynchronousEvents: false,
    verifyClient: (_info, decide) => decide(!door.isFull(), 503, "CONNECTION_LIMIT"),
  });
  sockets.on("connection", (socket) => {
    const pause = () => {
      if (socket.bufferedAmount > maxUnreadBytes) socket.pause();
    };
    socket.on("message", pause);
    socket.on("ping", pause);
  });
  const contexts = new Map<WebSocket, GatewayContext>();
  const readers = new ReaderWatch();
  const running = useServer<Record<string, unknown>, Connection>(
    {
      onConnect: async (ctx) => {
        const params = ctx.connectionParams ?? {};
        const given = params.authorization ?? params.Authorization ?? ctx.extra.request.headers.authorization;
        const authorization = typeof given === "string" ? given : "";
        try {
          const caller = await tokens.verifyAuthorization(authorization);
          ctx.extra.context = {
            caller,
            authorization,
            requestId: requestIdOf(ctx.extra.request.headers["x-request-id"]),
          };
          // One that has gone meanwhile would never be taken out again.
          if (ctx.extra.socket.readyState !== ctx.extra.socket.OPEN) return false;
          const operations = new RunningOperations();
          ctx.extra.operations = operations;
          contexts.set(ctx.extra.socket, ctx.extra.context);
          readers.add(ctx.extra.socket, ctx.extra.request.socket, () => operations.endAll());
          ctx.extra.socket.once("close", () => {
            contexts.delete(ctx.extra.socket);
            operations.endAll();
          });
          return true;
        } catch (error) {
          // graphql-ws says 4403 Forbidden by itself; the reason tells the caller what is wrong with the token.
          ctx.extra.socket.close(4403, toAppError(error).message.slice(0, 120));
          return false;
        }
      },
      onSubscribe: (ctx, _id, params) => {
        const { context, operations } = ctx.extra;
        // Operations of any kind: what is sent faster than it is answered is held by the client, not here.
        if (!context || !operations || operations.count >= limits.subscriptionsPerCaller) return [tooMany];
        return {
          document: anyOperation,
          schema: null as never,
          contextValue: () => operations.run(() => answer(params, context)),
        };
      },
      execute: answerOperation,
      subscribe: answerOperation,
      onError: (_ctx, _id, _payload, errors) => {
        log.debug({ errors }, "a WebSocket operation failed");
      },
    },
    sockets,
    withoutPings,
  );
  const check = setInterval(() => {
    readers.check();
    for (const socket of sockets.clients)
      if (socket.isPaused && socket.bufferedAmount <= maxUnreadBytes) socket.resume();
    for (const [socket, { caller }] of contexts) {
      try {
        tokens.assertStillValid(caller);
      } catch (error) {
        socket.close(4403, toAppError(error).message.slice(0, 120));
        contexts.delete(socket);
      }
    }
  }, checkIntervalMs);
  check.unref();
  return {
    close: async () => {
      clearInterval(check);
      for (const socket of sockets.clients) socket.close(1001, "Going away");
      await running.dispose();
      for (const socket of sockets.clients) socket.terminate();
    },
  };
}

function answerOperation({ contextValue }: { contextValue?: unknown }): Promise<Answer> {
  return (contextValue as () => Promise<Answer>)();
}
