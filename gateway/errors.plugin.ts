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
      if (result && typeof result === "object" && "errors" in result && Array.isArray(result.errors)) {
        setResult({ ...result, errors: result.errors.map(publish) });
      }
    },
  };
}

function toPublic(error: GraphQLError, requestId: string | undefined, log: Logger): GraphQLError {
  const { code } = error.extensions ?? {};
  const original = error.originalError;
  const position = { nodes: error.nodes ?? null, path: error.path ?? null };
  if (typeof code === "string" && code !== "INTERNAL_SERVER_ERROR") {
    // Those of a subgraph that runs apart are plain objects, which graphql-ws cannot send.
    if (error instanceof GraphQLError) return error;
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
