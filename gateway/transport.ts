import { type DocumentNode, type ExecutionResult, GraphQLError, parse, print } from "graphql";
import { AppError, toAppError } from "../common/errors.js";
import type { Caller } from "../common/identity.js";
import type { Logger } from "../common/log.js";
import { type ServiceKey, serviceHeader } from "../common/service-key.js";
import { executeOperation, type Subgraph } from "../common/subgraph.js";
import { traceHeaders } from "../common/tracing.js";
import type { SubscriptionStep } from "./each-event.js";
import { postJson } from "./post-json.js";
import { RemoteSubscription } from "./remote-subscription.js";

/** What the gateway knows of a request, made once per request or connection and handed to every subgraph call. */
export interface GatewayContext {
  caller: Caller;
  authorization: string;
  requestId: string;
  /** Of a subscription: what the present execution of its plan is for. */
  subscriptionStep?: SubscriptionStep;
}

export interface SubgraphRequest {
  document: DocumentNode;
  variables?: Record<string, unknown>;
  operationName?: string;
  isSubscription: boolean;
  context: GatewayContext;
}

export type SubgraphExecutor = (request: SubgraphRequest) => Promise<ExecutionResult | AsyncIterable<ExecutionResult>>;

/** A subgraph that runs apart. */
export interface RemoteSubgraph {
  name: string;
  url: string;
  sdl: string;
  serviceKey: ServiceKey;
}

const requestTimeoutMs = 30_000;
const readyTimeoutMs = 1_500;

/** A subgraph in this process: no network hop, and the caller is the one that the gateway has verified. */
export function localExecutor(subgraph: Subgraph, log: Logger): SubgraphExecutor {
  return ({ document, variables, operationName, isSubscription, context }) =>
    executeOperation(
      subgraph,
      { document, variables, operationName, isSubscription, caller: context.caller, requestId: context.requestId },
      log,
    );
}

export interface RemoteExecutor {
  execute: SubgraphExecutor;
  /** Throws while the subgraph is not ready. */
  checkReady: () => Promise<void>;
}

/** A subgraph behind HTTP and WebSocket, which verifies the caller's token again. Down is an error that names it, not a crash. */
export function remoteExecutor({ name, url, serviceKey }: RemoteSubgraph): RemoteExecutor {
  const address = new URL(url);
  const printed = new WeakMap<DocumentNode, string>();
  const text = (document: DocumentNode) => {
    const query = printed.get(document) ?? print(document);
    printed.set(document, query);
    return query;
  };
  const query = async ({ document, variables, operationName, context }: SubgraphRequest): Promise<ExecutionResult> => {
    try {
      const headers = {
        "content-type": "application/json",
        accept: "application/json",
        authorization: context.authorization,
        "x-request-id": context.requestId,
        ...traceHeaders(),
        [serviceHeader]: serviceKey.sign(),
      };
      const body = JSON.stringify({ query: text(document), variables, operationName });
      const { status, json } = await postJson(address, headers, body, requestTimeoutMs);
      const result = json as ExecutionResult | null;
      if (!result || (result.data === undefined && result.errors === undefined))
        throw new Error(`HTTP status ${status}`);
      return result;
    } catch (error) {
      return { data: null, errors: [unavailable(name, error)] };
    }
  };
  const subscribe = ({ document, variables, operationName, context }: SubgraphRequest) => {
    return new RemoteSubscription({
      url,
      connectionParams: {
        authorization: context.authorization,
        requestId: context.requestId,
        service: serviceKey.sign(),
      },
      payload: { query: text(document), variables: variables ?? null, operationName: operationName ?? null },
      toResult: (error) => ({ errors: [unavailable(name, error)] }),
    });
  };
  return {
    execute: async (request) => (request.isSubscription ? subscribe(request) : query(request)),
    checkReady: async () => {
      const signal = AbortSignal.timeout(readyTimeoutMs);
      const response = await fetch(new URL("/readyz", url), { signal }).catch(() => null);
      await response?.body?.cancel();
      if (!response?.ok) throw new AppError("UNAVAILABLE", `The subgraph ${name} does not answer just now.`);
    },
  };
}

function unavailable(name: string, cause: unknown): GraphQLError {
  const error = cause instanceof AppError ? toAppError(cause) : null;
  return new GraphQLError(
    error?.message ?? `The subgraph ${name} does not answer just now. Try again in some seconds.`,
    {
      extensions: { code: "UNAVAILABLE", retryable: true, serviceName: name },
    },
  );
}

const existence = parse(
  "query ($representations: [_Any!]!) { _entities(representations: $representations) { __typename } }",
);

/** Whether entities exist for the caller, asked of their owner. An owner that does not answer is an error, not an absence. */
export async function findEntities(
  owner: string,
  executor: SubgraphExecutor,
  representations: { __typename: string; id: string }[],
  context: GatewayContext,
): Promise<boolean[]> {
  const request = { document: existence, variables: { representations }, isSubscription: false, context };
  const result = (await executor(request)) as ExecutionResult<{ _entities: (object | null)[] }>;
  if (!result.data) {
    const message = result.errors?.[0]?.message ?? `The subgraph ${owner} does not answer just now.`;
    throw new AppError("UNAVAILABLE", message, { details: { serviceName: owner } });
  }
  return result.data._entities.map((entity) => entity !== null);
}
