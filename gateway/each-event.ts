import {
  type ExecutionRequest,
  type Executor,
  getOperationASTFromRequest,
  isAsyncIterable,
} from "@graphql-tools/utils";
import type { ExecutionResult } from "graphql";
import { mapInOrder } from "../common/map-in-order.js";
import type { GatewayContext } from "./transport.js";

/** Events of one subscription that are joined at a time. */
const joinedAtATime = 16;

/** What one execution of a subscription's plan is for, handed to the transport in the request's context. */
export interface SubscriptionStep {
  /** An event of the stream, which the transport answers with in place of opening it. */
  event?: ExecutionResult;
  /** Without an event: what the transport got when it opened the stream. */
  opened?: ExecutionResult | AsyncIterable<ExecutionResult>;
}

/**
 * Executes the plan anew for each event of a subscription. router-runtime by itself keeps one state for all events of it:
 * an event that fails would be answered with the data of the one before, and an error once met with every later event.
 */
export function executeEachEvent(executor: Executor): Executor {
  const step = (request: ExecutionRequest, subscriptionStep: SubscriptionStep) =>
    executor({ ...request, context: { ...(request.context as GatewayContext), subscriptionStep } });

  const subscribe = async (request: ExecutionRequest) => {
    const opening: SubscriptionStep = {};
    const refusal = await step(request, opening);
    const { opened } = opening;
    if (opened === undefined) return refusal;
    if (!isAsyncIterable(opened)) return step(request, { event: opened });
    return mapInOrder(opened[Symbol.asyncIterator](), async (event) => step(request, { event }), joinedAtATime);
  };
  const isSubscription = (request: ExecutionRequest) =>
    getOperationASTFromRequest(request).operation === "subscription";
  return ((request: ExecutionRequest) =>
    isSubscription(request) ? subscribe(request) : executor(request)) as Executor;
}
