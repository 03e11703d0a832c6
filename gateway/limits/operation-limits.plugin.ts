import { type ExecutionArgs, GraphQLError, getOperationAST, Lexer, Source, TokenKind } from "graphql";
import { type ErrorCode, errorTable } from "../../common/errors.js";
import { maxNesting, nestsTooDeep } from "../../common/nesting.js";
import type { GatewayContext } from "../transport.js";
import type { GatewayLimits } from "./gateway-limits.js";
import { measure } from "./measure.js";
import { holding, SubscriptionPlaces } from "./subscription-places.js";

interface ParamsPayload {
  /** As they came: their shape is checked later. */
  params: { query?: unknown; variables?: unknown };
  setResult: (result: unknown) => void;
}

type Args = ExecutionArgs & { contextValue: GatewayContext };
type Execute = (args: Args) => unknown;

interface ExecutePayload {
  args: Args;
  executeFn: Execute;
  setExecuteFn: (execute: Execute) => void;
  setResultAndStopExecution: (result: unknown) => void;
}

interface SubscribePayload {
  args: Args;
  subscribeFn: Execute;
  setSubscribeFn: (subscribe: Execute) => void;
  setResultAndStopExecution: (result: unknown) => void;
}

/**
 * What one operation may ask for, and one caller at a time. In the pipeline that every transport goes through, so that
 * HTTP, event streams and WebSocket have the same limits.
 */
export function operationLimits(limits: GatewayLimits) {
  const places = new SubscriptionPlaces(limits.subscriptionsPerCaller);
  return {
    onParams({ params, setResult }: ParamsPayload): void {
      if (typeof params.query === "string" && hasMoreTokens(params.query, limits.tokens))
        setResult(refusal("TOKEN_LIMIT", `A document has up to ${limits.tokens} tokens.`));
      else if (nestsTooDeep(params.variables) || (typeof params.query === "string" && hasTooDeep(params.query)))
        setResult(refusal("DEPTH_LIMIT", `Braces and brackets nest up to ${maxNesting} levels.`));
    },

    onExecute({ args, executeFn, setExecuteFn, setResultAndStopExecution }: ExecutePayload): void {
      const refused = check(args, limits);
      if (refused) setResultAndStopExecution(refused);
      else setExecuteFn((given) => inTime(executeFn(given), limits.operationMs));
    },

    onSubscribe({ args, subscribeFn, setSubscribeFn, setResultAndStopExecution }: SubscribePayload): void {
      const refused = check(args, limits);
      const place = refused ? null : places.take(args.contextValue.caller);
      if (place) setSubscribeFn((given) => holding(place, () => subscribeFn(given)));
      else setResultAndStopExecution(refused ?? refusal("SUBSCRIPTION_LIMIT", places.message));
    },
  };
}

/** A token takes a character at least, so most documents need no counting. What is no token is left to the parser to say. */
function hasMoreTokens(text: string, most: number): boolean {
  if (text.length <= most) return false;
  const lexer = new Lexer(new Source(text));
  try {
    for (let count = 0; count <= most; count++) if (lexer.advance().kind === TokenKind.EOF) return false;
    return true;
  } catch {
    return false;
  }
}

const opening = new Set<string>([TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L]);
const closing = new Set<string>([TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R]);

/** Whether a document nests deeper than the planner's parser reads, in selections or in values. */
function hasTooDeep(text: string): boolean {
  if ((text.match(/[{[(]/g)?.length ?? 0) <= maxNesting) return false;
  const lexer = new Lexer(new Source(text));
  try {
    for (let levels = 0; levels <= maxNesting; ) {
      const { kind } = lexer.advance();
      if (kind === TokenKind.EOF) return false;
      if (opening.has(kind)) levels++;
      if (closing.has(kind)) levels--;
    }
    return true;
  } catch {
    return false;
  }
}

function check({ schema, document, operationName, variableValues }: Args, limits: GatewayLimits) {
  const operation = getOperationAST(document, operationName);
  if (!operation) return null;
  const { depth, aliases, cost, isIntrospection } = measure(schema, document, operation, variableValues ?? {});
  if (isIntrospection && !limits.introspection)
    return refusal("INTROSPECTION_OFF", "This gateway does not tell its schema. It is in schema/supergraph.graphql.");
  if (depth > limits.depth)
    return refusal("DEPTH_LIMIT", `An operation is up to ${limits.depth} fields deep, not ${depth}.`);
  if (aliases > limits.aliases)
    return refusal("ALIAS_LIMIT", `An operation has up to ${limits.aliases} aliases, not ${aliases}.`);
  if (cost > limits.cost) {
    return refusal(
      "COST_LIMIT",
      `An operation may ask for ${limits.cost} objects, this one asks for up to ${cost}. Ask for smaller pages.`,
    );
  }
  return null;
}

/** `spec`: the status is for clients of application/graphql-response+json, others have 200 as the specification wants. */
export function refusal(code: ErrorCode, message: string) {
  const http = { spec: true, status: errorTable[code].httpStatus };
  return { errors: [new GraphQLError(message, { extensions: { code, http } })] };
}

/** What runs on has its own bounds: a statement, and a call of a subgraph, end after 30 seconds. */
async function inTime(running: unknown, limitMs: number): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const message = `The operation took longer than ${limitMs / 1000} seconds. Ask for less; what it changed may still be done.`;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve(refusal("EXECUTION_TIMEOUT", message)), limitMs);
  });
  try {
    return await Promise.race([running, late]);
  } finally {
    clearTimeout(timer);
  }
}
