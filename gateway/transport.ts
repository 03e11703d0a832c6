import { type DocumentNode, type ExecutionResult, parse } from "graphql";
import { AppError } from "../common/errors.js";
import type { Caller } from "../common/identity.js";
import type { Logger } from "../common/log.js";
import type { ServiceKey } from "../common/service-key.js";
import { executeOperation, type Subgraph } from "../common/subgraph.js";

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

/** A subgraph in this process: no network hop, and the caller is the one that the gateway has verified. */
export function localExecutor(subgraph: Subgraph, log: Logger): SubgraphExecutor {
  return ({ document, variables, isSubscription, context: { caller, requestId } }) =>
    executeOperation(subgraph, { document, variables, isSubscription, caller, requestId }, log);
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
