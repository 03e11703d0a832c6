import { type DocumentNode, type ExecutionResult, GraphQLError, parse } from "graphql";
import { AppError, toAppError } from "../common/errors.js";
import type { Caller } from "../common/identity.js";
import type { Logger } from "../common/log.js";
import { type ServiceKey, serviceHeader } from "../common/service-key.js";
import { executeOperation, type Subgraph } from "../common/subgraph.js";
import { traceHeaders } from "../common/tracing.js";
import { postJson } from "./post-json.js";
import { RemoteSubscription } from "./remote-subscription.js";

/** What the gateway knows of a request, made once per request or connection and handed to every subgraph call. */
export interface GatewayContext {
  caller: Caller;
  authorization: string;
  requestId: string;
}

export interface SubgraphRequest {
  /** The operation, as it goes to a subgraph that runs apart, and as one in this process executes it. */
  text: string;
  document: DocumentNode;
  variables: Record<string, unknown> | undefined;
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
  return ({ document, variables, isSubscription, context: { caller, requestId } }) =>
    executeOperation(subgraph, { document, variables, isSubscription, caller, requestId }, log);
}

export interface RemoteExecutor {
  execute: SubgraphExecutor;
  /** Throws while the subgraph is not ready. */
  checkReady: () => Promise<void>;
}

/** A subgraph behind HTTP and WebSocket, which verifies the caller's token again. Down is an error that names it, not a crash. */
export function remoteExecutor({ name, url, serviceKey }: RemoteSubgraph): RemoteExecutor {
  const address = new URL(url);
  const query = async ({ text, variables, context }: SubgraphRequest): Promise<ExecutionResult> => {
    try {
      const headers = {
        "content-type": "application/json",
        accept: "application/json",
        authorization: context.authorization,
        "x-request-id": context.requestId,
        ...traceHeaders(),
        [serviceHeader]: serviceKey.sign(),
      };
      const body = JSON.stringify({ query: text, variables });
      const { status, json } = await postJson(address, headers, body, requestTimeoutMs);
      const result = json as ExecutionResult | null;
      if (!result || (result.data === undefined && result.errors === undefined))
        throw new Error(`HTTP status ${status}`);
      return result;
    } catch (error) {
      return { data: null, errors: [unavailable(name, error)] };
    }
  };
  const subscribe = ({ text, variables, context }: SubgraphRequest) => {
    return new RemoteSubscription({
      url,
      connectionParams: {
        authorization: context.authorization,
        requestId: context.requestId,
        service: serviceKey.sign(),
      },
      payload: { query: text, variables: variables ?? null },
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

const existence = "query ($representations: [_Any!]!) { _entities(representations: $representations) { __typename } }";
const existenceDocument = parse(existence);

/** Whether entities exist for the caller, asked of their owner. An owner that does not answer is an error, not an absence. */
export async function findEntities(
  owner: string,
  executor: SubgraphExecutor,
  representations: { __typename: string; id: string }[],
  context: GatewayContext,
): Promise<boolean[]> {
  const variables = { representations };
  const request = { text: existence, document: existenceDocument, variables, isSubscription: false, context };
  const result = (await executor(request)) as ExecutionResult<{ _entities: (object | null)[] }>;
  if (!result.data) {
    const message = result.errors?.[0]?.message ?? `The subgraph ${owner} does not answer just now.`;
    throw new AppError("UNAVAILABLE", message, { details: { serviceName: owner } });
  }
  return result.data._entities.map((entity) => entity !== null);
}
