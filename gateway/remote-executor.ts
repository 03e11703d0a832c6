import { type ExecutionResult, GraphQLError } from "graphql";
import { AppError, toAppError } from "../common/errors.js";
import { serviceHeader } from "../common/service-key.js";
import { traceHeaders } from "../common/tracing.js";
import { postJson } from "./post-json.js";
import { RemoteSubscription } from "./remote-subscription.js";
import type { RemoteSubgraph, SubgraphExecutor, SubgraphRequest } from "./transport.js";

const requestTimeoutMs = 30_000;
const readyTimeoutMs = 1_500;

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
