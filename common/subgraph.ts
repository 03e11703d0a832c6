import "reflect-metadata";
import { buildSubgraphSchema } from "@apollo/subgraph";
import { printSchemaWithDirectives } from "@graphql-tools/utils";
import {
  createSourceEventStream,
  type DocumentNode,
  type ExecutionArgs,
  type ExecutionResult,
  execute,
  GraphQLError,
  type GraphQLSchema,
  lexicographicSortSchema,
  parse,
} from "graphql";
import { type BuildSchemaOptions, buildSchema, type ClassType, createResolversMap } from "type-graphql";
import { toAppError } from "./errors.js";
import type { Caller } from "./identity.js";
import type { Logger } from "./log.js";
import { mapInOrder } from "./map-in-order.js";

/** What every resolver gets. `loaders` is made anew for each operation and for each event of a subscription. */
export interface SubgraphContext<Loaders = unknown> {
  caller: Caller;
  requestId: string;
  loaders: Loaders;
}

export type EntityReference = { __typename: string; id: string };

export interface SubgraphDefinition<Loaders> {
  name: string;
  /** Resolver instances; type-graphql is handed these instead of making its own. */
  resolvers: object[];
  /** Entity types that no root field of this subgraph reaches: type-graphql would prune them. */
  entityTypes: ClassType[];
  /** How each entity type is found by `_entities`. Null for what is absent or not visible to the caller. */
  references: Record<string, (reference: EntityReference, context: SubgraphContext<Loaders>) => unknown>;
  createLoaders: (caller: Caller) => Loaders;
}

export interface Subgraph {
  name: string;
  schema: GraphQLSchema;
  sdl: string;
  createContext: (caller: Caller, requestId: string) => SubgraphContext;
}

/** type-graphql wants one where there are subscriptions, though each of ours reads the event log by its own `subscribe`. */
const noPubSub = {
  publish: () => undefined,
  subscribe: () => {
    throw new Error("A subscription reads the event log by its own `subscribe`.");
  },
};

const federationLink = `extend schema @link(url: "https://specs.apollo.dev/federation/v2.7", import: ["@key", "@shareable", "@external", "@requires", "@provides", "@tag", "@inaccessible", "@override"])`;

/** The executable schema of a subgraph and the SDL that composition reads, sorted so that it diffs well. */
export async function buildSubgraph<Loaders>(definition: SubgraphDefinition<Loaders>): Promise<Subgraph> {
  const instances = new Map(definition.resolvers.map((resolver) => [resolver.constructor, resolver]));
  const base = await buildSchema({
    resolvers: [...instances.keys()] as unknown as BuildSchemaOptions["resolvers"],
    orphanedTypes: definition.entityTypes,
    container: { get: (type) => instances.get(type) },
    validate: false,
    pubSub: noPubSub,
    skipCheck: true,
  });
  const sdl = `${federationLink}\n\n${printSchemaWithDirectives(lexicographicSortSchema(base))}\n`;
  const resolvers = createResolversMap(base) as Record<string, Record<string, unknown>>;
  for (const [type, find] of Object.entries(definition.references)) {
    const typeResolvers = resolvers[type] ?? {};
    typeResolvers.__resolveReference = find;
    resolvers[type] = typeResolvers;
  }
  const schema = buildSubgraphSchema([{ typeDefs: parse(sdl), resolvers: resolvers as never }]);
  return {
    name: definition.name,
    schema,
    sdl,
    createContext: (caller, requestId) => ({ caller, requestId, loaders: definition.createLoaders(caller) }),
  };
}

export interface SubgraphOperation {
  document: DocumentNode;
  variables: Record<string, unknown> | undefined;
  isSubscription: boolean;
  caller: Caller;
  requestId: string;
  rootValue?: unknown;
}

/**
 * Runs an operation in this process. A subscription gets a fresh context for each event, because graphql-js keeps one
 * for the whole subscription and its loaders would answer with what they read at the first event.
 */
export async function executeOperation(
  subgraph: Subgraph,
  operation: SubgraphOperation,
  log: Logger,
): Promise<ExecutionResult | AsyncIterable<ExecutionResult>> {
  const args: ExecutionArgs = {
    schema: subgraph.schema,
    document: operation.document,
    variableValues: operation.variables,
    contextValue: subgraph.createContext(operation.caller, operation.requestId),
  };
  const finish = (result: ExecutionResult) => withPublicErrors(result, subgraph.name, operation.requestId, log);
  if (!operation.isSubscription) return finish(await execute(args));
  return subscribeFresh(args, () => subgraph.createContext(operation.caller, operation.requestId), finish);
}

/** Events of a stream that are answered at a time, so that its pace is not that of one answer after another. */
const answeredAtATime = 16;
/** How old what a context's loaders have read may be for a further event that was read with the first. */
const sharedForMs = 50;

/**
 * Like graphql-js `subscribe`, with a new context value for each event, or for those that were read of the log together:
 * what their loaders read is younger than all of them.
 */
export async function subscribeFresh(
  args: ExecutionArgs,
  freshContext: () => unknown,
  finish: (result: ExecutionResult) => ExecutionResult,
): Promise<ExecutionResult | AsyncIterable<ExecutionResult>> {
  const source = (await createSourceEventStream(args)) as AsyncIterable<{ readWith?: object }> | ExecutionResult;
  if (!(Symbol.asyncIterator in source)) return finish(source);
  let context: { readWith: object | undefined; value: unknown; madeAt: number } | undefined;
  const answer = async (event: { readWith?: object }): Promise<ExecutionResult> => {
    const { readWith } = event;
    const isShared = readWith !== undefined && context?.readWith === readWith;
    if (!context || !isShared || Date.now() - context.madeAt > sharedForMs)
      context = { readWith, value: freshContext(), madeAt: Date.now() };
    return execute({ ...args, rootValue: event, contextValue: context.value });
  };
  const answers = mapInOrder(source[Symbol.asyncIterator](), answer, answeredAtATime);
  let ended = false;
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        if (ended) return { done: true as const, value: undefined };
        try {
          const { done, value } = await answers.next();
          if (done) return { done: true as const, value: undefined };
          if (isTold(value)) return { done: false as const, value: finish(value) };
          // An event that could not be told is not passed over: the stream ends, and resumes before it.
          ended = true;
          void answers.return?.();
          return { done: false as const, value: finish({ ...value, data: null }) };
        } catch (error) {
          // A stream that breaks ends with an answer that says why, so that the client knows whether to resume.
          ended = true;
          return { done: false as const, value: finish({ errors: [toGraphQLError(error)] }) };
        }
      },
      async return() {
        ended = true;
        await answers.return?.();
        return { done: true as const, value: undefined };
      },
    }),
  };
}

/** Not so where something that the event is joined with could not be read just now. */
function isTold({ data, errors = [] }: ExecutionResult): boolean {
  return data != null && !errors.some(({ originalError }) => originalError && toAppError(originalError).retryable);
}

function toGraphQLError(error: unknown): GraphQLError {
  if (error instanceof GraphQLError) return error;
  return new GraphQLError(toAppError(error).message, {
    originalError: error instanceof Error ? error : new Error(String(error)),
  });
}

/** Our errors with their code, GraphQL's own (a document that does not fit the schema) as they are, the rest masked and logged. */
export function withPublicErrors(
  result: ExecutionResult,
  subgraph: string,
  requestId: string,
  log: Logger,
): ExecutionResult {
  if (!result.errors) return result;
  return { ...result, errors: result.errors.map((error) => toPublicError(error, subgraph, requestId, log)) };
}

export function toPublicError(error: GraphQLError, subgraph: string, requestId: string, log: Logger): GraphQLError {
  // What graphql-js refuses itself has no original error but, where a scalar refused a value, another of its own.
  const { originalError } = error;
  if (!originalError || (originalError instanceof GraphQLError && !originalError.originalError)) {
    return new GraphQLError(error.message, {
      ...positionOf(error),
      extensions: { ...error.extensions, code: error.extensions.code ?? "BAD_USER_INPUT" },
    });
  }
  const appError = toAppError(originalError);
  // What was thrown as an answer needs no log; a fault or a dependency that is away has its cause with it.
  if (appError.cause !== undefined && (appError.code === "INTERNAL" || appError.code === "UNAVAILABLE")) {
    log.error({ err: appError.cause, requestId, subgraph, path: error.path }, "a resolver failed");
  }
  return new GraphQLError(appError.message, {
    ...positionOf(error),
    extensions: {
      code: appError.code,
      ...(appError.retryable ? { retryable: true } : {}),
      ...(appError.code === "INTERNAL" ? { requestId } : {}),
      ...(appError.details ? { details: appError.details } : {}),
      ...(appError.code === "UNAVAILABLE" ? { serviceName: appError.details?.serviceName ?? subgraph } : {}),
    },
  });
}

function positionOf(error: GraphQLError) {
  return {
    nodes: error.nodes ?? null,
    source: error.source ?? null,
    positions: error.positions ?? null,
    path: error.path ?? null,
  };
}
