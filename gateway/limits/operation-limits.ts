import { type GraphQLSchema, Lexer, Source, TokenKind, type TypeNode } from "graphql";
import { AppError } from "../../common/errors.js";
import { maxNesting, nestsTooDeep } from "../../common/nesting.js";
import type { PreparedOperation } from "../documents.js";
import type { GatewayLimits } from "./gateway-limits.js";
import { type Measures, measure } from "./measure.js";

/** A token takes a character at least, so most documents need no counting. What is no token is left to the parser to say. */
function checkTokens(text: string, { tokens }: GatewayLimits): void {
  if (text.length <= tokens) return;
  const lexer = new Lexer(new Source(text));
  try {
    for (let count = 0; count <= tokens; count++) if (lexer.advance().kind === TokenKind.EOF) return;
  } catch {
    return;
  }
  throw new AppError("TOKEN_LIMIT", `A document has up to ${tokens} tokens.`);
}

const opening = new Set<string>([TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L]);
const closing = new Set<string>([TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R]);

const tooDeep = () => new AppError("DEPTH_LIMIT", `Braces and brackets nest up to ${maxNesting} levels.`);

/** What nests deeper than parsers read runs them out of stack: a document in selections or values, or a request's variables. */
export function checkVariables(variables: unknown): void {
  if (nestsTooDeep(variables)) throw tooDeep();
}

/** What a text may be before it is parsed. */
export function checkText(text: string, limits: GatewayLimits): void {
  checkTokens(text, limits);
  if (hasTooDeep(text)) throw tooDeep();
}

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

/** Of operations whose pages are the same whatever their variables are. */
const knownMeasures = new WeakMap<PreparedOperation, Measures>();

function measured(operation: PreparedOperation, variables: Record<string, unknown>, schema: GraphQLSchema): Measures {
  const known = knownMeasures.get(operation);
  if (known) return known;
  const { document, node } = operation;
  const measures = measure(schema, document, node, variables);
  if (!node.variableDefinitions?.some(({ type }) => mayBeSize(type))) knownMeasures.set(operation, measures);
  return measures;
}

/** Numbers are sizes of pages, and lists have a size. */
function mayBeSize(type: TypeNode): boolean {
  if (type.kind === "NonNullType") return mayBeSize(type.type);
  return type.kind === "ListType" || type.name.value === "Int";
}

/** What one operation may ask for. */
export function checkOperation(
  operation: PreparedOperation,
  variables: Record<string, unknown>,
  schema: GraphQLSchema,
  limits: GatewayLimits,
): void {
  const { depth, aliases, cost, isIntrospection } = measured(operation, variables, schema);
  if (isIntrospection && !limits.introspection)
    throw new AppError(
      "INTROSPECTION_OFF",
      "This gateway does not tell its schema. It is in schema/supergraph.graphql.",
    );
  if (depth > limits.depth)
    throw new AppError("DEPTH_LIMIT", `An operation is up to ${limits.depth} fields deep, not ${depth}.`);
  if (aliases > limits.aliases)
    throw new AppError("ALIAS_LIMIT", `An operation has up to ${limits.aliases} aliases, not ${aliases}.`);
  if (cost > limits.cost) {
    throw new AppError(
      "COST_LIMIT",
      `An operation may ask for ${limits.cost} objects, this one asks for up to ${cost}. Ask for smaller pages.`,
    );
  }
}

/** Ends the waiting. What runs on has its own bounds: a statement, and a call of a subgraph, end after 30 seconds. */
export async function inTime<T>(running: Promise<T>, limitMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const message = `The operation took longer than ${limitMs / 1000} seconds. Ask for less; what it changed may still be done.`;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new AppError("EXECUTION_TIMEOUT", message)), limitMs);
  });
  try {
    return await Promise.race([running, late]);
  } finally {
    clearTimeout(timer);
  }
}
