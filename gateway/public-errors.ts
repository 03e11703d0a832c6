import { GraphQLError } from "graphql";
import { type AppError, toAppError } from "../common/errors.js";
import type { Logger } from "../common/log.js";

export interface PublicErrorsOptions {
  /** Where the schema is not told, neither is what a wrong name may have meant. */
  tellsSchema: boolean;
  log: Logger;
}

/** Every error leaves the gateway with a code; what is not an answer is masked, and logged under the request's id. */
export function toPublicErrors(thrown: unknown, requestId: string, options: PublicErrorsOptions): GraphQLError[] {
  const all = thrown instanceof AggregateError ? (thrown.errors as unknown[]) : [thrown];
  return all.map((error) => toPublicError(error, requestId, options));
}

export function toPublicError(
  error: unknown,
  requestId: string,
  { tellsSchema, log }: PublicErrorsOptions,
): GraphQLError {
  const known = isGraphQLError(error) ? withCode(error) : fromFault(toAppError(error), requestId, log);
  return tellsSchema ? known : withoutSuggestion(known);
}

/** Those of a subgraph that runs apart are plain objects, which graphql-ws cannot send. */
function isGraphQLError(error: unknown): error is GraphQLError {
  return error instanceof GraphQLError || !(error instanceof Error);
}

function withCode(error: GraphQLError): GraphQLError {
  const { code = "GRAPHQL_VALIDATION_FAILED" } = error.extensions ?? {};
  if (error instanceof GraphQLError && error.extensions.code === code) return error;
  return new GraphQLError(error.message, { ...positionOf(error), extensions: { ...error.extensions, code } });
}

function fromFault(appError: AppError, requestId: string, log: Logger): GraphQLError {
  const { code, message, retryable } = appError;
  if (code === "INTERNAL") log.error({ err: appError.cause ?? appError, requestId }, "the gateway failed");
  const extensions = { code, ...(retryable ? { retryable } : {}), ...(code === "INTERNAL" ? { requestId } : {}) };
  return new GraphQLError(message, { extensions, originalError: appError });
}

/** graphql-js ends some of its messages with names of the schema, and has no switch for all of them. */
function withoutSuggestion(error: GraphQLError): GraphQLError {
  const message = error.message.replace(/\s*Did you mean [^?]*\?$/, "");
  if (message === error.message) return error;
  return new GraphQLError(message, { ...positionOf(error), extensions: error.extensions });
}

function positionOf({ nodes, source, positions, path }: GraphQLError) {
  return { nodes: nodes ?? null, source: source ?? null, positions: positions ?? null, path: path ?? null };
}
