import { GraphQLError } from "graphql";
import { toAppError } from "../common/errors.js";
import type { Logger } from "../common/log.js";
import type { GatewayContext } from "./transport.js";

interface ResultPayload {
  result: unknown;
  setResult: (result: unknown) => void;
  request?: Request;
  context?: unknown;
}

/**
 * Every error leaves the gateway with a code; what is not an answer is masked, and logged under the request's id. Where the
 * schema is not told, neither is what a wrong name may have meant.
 */
export function publicErrors(tellsSchema: boolean, log: Logger) {
  return {
    onExecutionResult({ result, setResult, context }: ResultPayload): void {
      const requestId = (context as GatewayContext | undefined)?.requestId;
      const publish = (error: GraphQLError) => {
        const known = toPublic(error, requestId, log);
        return tellsSchema ? known : withoutSuggestion(known);
      };
      const published = withErrors(result, publish);
      if (published) setResult(published);
    },

    /** What was no request at all never came to an execution. */
    onResultProcess({ result, setResult }: ResultPayload): void {
      const published = withErrors(result, withCodeOfTable);
      if (published) setResult(published);
    },
  };
}

/** The runtime notes the status of an HTTP answer at each error, and takes it out where it answers over HTTP itself. */
export function withoutStatus(result: unknown): unknown {
  return (
    withErrors(result, ({ message, nodes, path, extensions: { http: _status, ...extensions } }) => {
      return new GraphQLError(message, { nodes: nodes ?? null, path: path ?? null, extensions });
    }) ?? result
  );
}

/** Null where the result is a stream, or has none. */
function withErrors(result: unknown, change: (error: GraphQLError) => GraphQLError): object | null {
  if (!result || typeof result !== "object" || !("errors" in result) || !Array.isArray(result.errors)) return null;
  return { ...result, errors: result.errors.map(change) };
}

/** The runtime's own word for what is no request, and what its parser said of it. */
function withCodeOfTable(error: GraphQLError): GraphQLError {
  if (error.extensions?.code !== "BAD_REQUEST") return error;
  const { originalError: _parser, ...extensions } = error.extensions;
  return new GraphQLError(error.message, { extensions: { ...extensions, code: "BAD_USER_INPUT" } });
}

function toPublic(error: GraphQLError, requestId: string | undefined, log: Logger): GraphQLError {
  const { code } = error.extensions ?? {};
  const original = error.originalError;
  const position = { nodes: error.nodes ?? null, path: error.path ?? null };
  if (typeof code === "string" && code !== "INTERNAL_SERVER_ERROR") {
    // Those of a subgraph that runs apart are plain objects, which graphql-ws cannot send.
    if (error instanceof GraphQLError) return withCodeOfTable(error);
    return new GraphQLError((error as Error).message, { ...position, extensions: (error as GraphQLError).extensions });
  }
  if (!original || original instanceof GraphQLError) {
    return new GraphQLError(error.message, {
      ...position,
      extensions: { ...error.extensions, code: code ?? "GRAPHQL_VALIDATION_FAILED" },
    });
  }
  const appError = toAppError(original);
  log.error({ err: original, requestId }, "the gateway failed");
  return new GraphQLError(appError.message, { ...position, extensions: { code: appError.code, requestId } });
}

/** graphql-js ends some of its messages with names of the schema, and has no switch for all of them. */
function withoutSuggestion(error: GraphQLError): GraphQLError {
  const message = error.message.replace(/\s*Did you mean [^?]*\?$/, "");
  const { nodes, path, extensions } = error;
  return message === error.message
    ? error
    : new GraphQLError(message, { nodes: nodes ?? null, path: path ?? null, extensions });
}
