import { isAsyncIterable } from "@graphql-tools/utils";
import { type ExecutionResult, execute, getVariableValues } from "graphql";
import { AppError } from "../common/errors.js";
import type { Logger } from "../common/log.js";
import { mapInOrder } from "../common/map-in-order.js";
import { Documents, type PreparedOperation } from "./documents.js";
import type { GatewayLimits } from "./limits/gateway-limits.js";
import { checkOperation, checkText, checkVariables, inTime } from "./limits/operation-limits.js";
import { holding, SubscriptionPlaces } from "./limits/subscription-places.js";
import { type TrustedDocuments, trustedText } from "./limits/trusted-documents.js";
import { type PublicErrorsOptions, toPublicError, toPublicErrors } from "./public-errors.js";
import { type Fetch, type PlanRun, pick } from "./query-plan.js";
import type { GatewayContext, SubgraphExecutor } from "./transport.js";

/** An operation as it came: a client may send anything here. */
export type Params = Partial<Record<(typeof members)[number], unknown>>;

const members = ["query", "variables", "operationName", "extensions", "documentId"] as const;

export type Answer = ExecutionResult | AsyncIterableIterator<ExecutionResult>;

export interface GraphOptions {
  supergraph: string;
  executorOf: (subgraph: string) => SubgraphExecutor;
  limits: GatewayLimits;
  /** The only ones that are answered, where they are given. */
  trustedDocuments: TrustedDocuments | undefined;
  log: Logger;
}

/** Events of one subscription that are joined at a time. */
const joinedAtATime = 16;

/** One graph out of the subgraphs: what every transport asks, with the same limits for all of them. */
export class Graph {
  readonly documents: Documents;
  readonly #options: GraphOptions;
  readonly #places: SubscriptionPlaces;
  readonly #publicErrors: PublicErrorsOptions;

  constructor(options: GraphOptions) {
    this.documents = new Documents(options.supergraph);
    this.#options = options;
    this.#places = new SubscriptionPlaces(options.limits.subscriptionsPerCaller);
    this.#publicErrors = { tellsSchema: options.limits.introspection, log: options.log };
  }

  /** Never throws: a refusal is a result without data, whose errors have codes. */
  async answer(params: Params, context: GatewayContext, mayChange = true): Promise<Answer> {
    try {
      const operation = this.#prepare(params);
      if (operation.kind === "mutation" && !mayChange)
        throw new AppError("METHOD_NOT_ALLOWED", "A mutation comes by POST.");
      const given = objectOf(params.variables, "variables") ?? {};
      checkOperation(operation, given, this.documents.schema, this.#options.limits);
      const variables = this.#coerced(operation, given);
      if (operation.kind === "subscription") return await this.#subscribe(operation, variables, context);
      return await inTime(this.#execute(operation, variables, context), this.#options.limits.operationMs);
    } catch (error) {
      return { errors: toPublicErrors(error, context.requestId, this.#publicErrors) };
    }
  }

  #prepare(params: Params): PreparedOperation {
    const { limits, trustedDocuments } = this.#options;
    const unknown = Object.keys(params).find((name) => !(members as readonly string[]).includes(name));
    if (unknown !== undefined)
      throw new AppError("BAD_USER_INPUT", "A request has a member that is none of GraphQL's.");
    const extensions = objectOf(params.extensions, "extensions");
    const text = trustedDocuments
      ? trustedText(trustedDocuments, params.query, params.documentId, extensions)
      : params.query;
    if (typeof text !== "string") throw new AppError("BAD_USER_INPUT", "`query` is the text of a document.");
    const { operationName } = params;
    if (operationName !== undefined && operationName !== null && typeof operationName !== "string")
      throw new AppError("BAD_USER_INPUT", "`operationName` is a name.");
    checkVariables(params.variables);
    return this.documents.prepare(text, (unknown) => checkText(unknown, limits)).operation(operationName || undefined);
  }

  #coerced({ node }: PreparedOperation, given: Record<string, unknown>): Record<string, unknown> {
    if (!node.variableDefinitions?.length) return {};
    const { coerced, errors } = getVariableValues(this.documents.schema, node.variableDefinitions, given);
    if (errors) throw new AggregateError(errors);
    return coerced;
  }

  async #execute(
    operation: PreparedOperation,
    variables: Record<string, unknown>,
    context: GatewayContext,
  ): Promise<ExecutionResult> {
    if (operation.isMeta) return this.#executeMeta(operation, variables);
    return this.#run(
      operation,
      operation.plan().run,
      {
        data: {},
        errors: [],
        variables,
        fetch: this.#fetchFor(context),
      },
      context,
    );
  }

  #executeMeta({ document, name }: PreparedOperation, variableValues: Record<string, unknown>) {
    const { schema } = this.documents;
    return execute({ schema, document, variableValues, ...(name === undefined ? {} : { operationName: name }) });
  }

  async #run(
    operation: PreparedOperation,
    step: (run: PlanRun) => Promise<unknown> | undefined,
    run: PlanRun,
    { requestId }: GatewayContext,
  ): Promise<ExecutionResult> {
    await step(run);
    const data = operation.projection(run.variables).of(run.data);
    if (run.errors.length === 0) return { data };
    return { data, errors: run.errors.map((error) => toPublicError(error, requestId, this.#publicErrors)) };
  }

  async #subscribe(operation: PreparedOperation, variables: Record<string, unknown>, context: GatewayContext) {
    const place = this.#places.take(context.caller);
    if (!place) throw new AppError("SUBSCRIPTION_LIMIT", this.#places.message);
    return holding(place, () => this.#open(operation, variables, context));
  }

  /** Runs the plan anew for each event, on what the event itself says. */
  async #open(
    operation: PreparedOperation,
    variables: Record<string, unknown>,
    context: GatewayContext,
  ): Promise<Answer> {
    const { stream, run } = operation.plan();
    if (!stream) throw new Error("The plan of a subscription opens no stream.");
    const fetch = this.#fetchFor(context);
    const join = ({ data, errors = [] }: ExecutionResult) => {
      const fetched = { data: { ...data }, errors: [...errors], variables, fetch };
      return this.#run(operation, run, fetched, context);
    };
    const { subgraph, text, document } = stream.operation;
    const opened = await this.#options.executorOf(subgraph)({
      text,
      document,
      variables: pick(variables, stream.variableUsages),
      isSubscription: true,
      context,
    });
    return isAsyncIterable(opened) ? mapInOrder(opened[Symbol.asyncIterator](), join, joinedAtATime) : join(opened);
  }

  #fetchFor(context: GatewayContext): Fetch {
    return ({ subgraph, text, document }, variables) =>
      this.#options.executorOf(subgraph)({
        text,
        document,
        variables,
        isSubscription: false,
        context,
      }) as Promise<ExecutionResult>;
  }
}

function objectOf(value: unknown, name: string): Record<string, unknown> | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "object" || Array.isArray(value))
    throw new AppError("BAD_USER_INPUT", `\`${name}\` is an object.`);
  return value as Record<string, unknown>;
}
