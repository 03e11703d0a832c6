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

/** Every error leaves the gateway with a code; what is not an answer is masked, and logged under the request's id. */
export function publicErrors(log: Logger) {
  return {
    onExecutionResult({ result, setResult, context }: ResultPayload): void {
      const requestId = (context as GatewayContext | undefined)?.requestId;
      if (result && typeof result === "object" && "errors" in result && Array.isArray(result.errors)) {
        setResult({ ...result, errors: result.errors.map((error: GraphQLError) => toPublic(error, requestId, log)) });
      }
    },
  };
}

function toPublic(error: GraphQLError, requestId: string | undefined, log: Logger): GraphQLError {
  const { code } = error.extensions ?? {};
  if (typeof code === "string" && code !== "INTERNAL_SERVER_ERROR") return error;
  const original = error.originalError;
  const position = { nodes: error.nodes ?? null, path: error.path ?? null };
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
