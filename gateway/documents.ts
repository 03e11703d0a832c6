import { QueryPlanner } from "@graphql-hive/router-query-planner";
import {
  buildASTSchema,
  type DocumentNode,
  type FragmentDefinitionNode,
  GraphQLError,
  type GraphQLSchema,
  getOperationAST,
  type OperationDefinitionNode,
  type OperationTypeNode,
  parse,
  print,
  type SelectionSetNode,
  validate,
  visit,
} from "graphql";
import { AppError } from "../common/errors.js";
import { Projection } from "./projection.js";
import { operationOf, prepareStep, type Step, type SubgraphOperation } from "./query-plan.js";

/** One operation of a document, made ready once. */
export interface PreparedOperation {
  kind: OperationTypeNode;
  name: string | undefined;
  node: OperationDefinitionNode;
  document: DocumentNode;
  /** It is about the schema, or about nothing: no subgraph is asked. */
  isMeta: boolean;
  /** The plan, without the stream that a subscription opens; made when first needed. */
  plan: () => Plan;
  projection: (variables: Record<string, unknown>) => Projection;
}

export interface Plan {
  stream: { operation: SubgraphOperation; variableUsages: string[] | undefined } | undefined;
  run: Step;
}

/** Documents that are kept ready, the longest unused given up first. */
const maxDocuments = 1_000;
/** Longer ones are made ready for each request: they would be much memory, and their requests take longer anyway. */
const maxKeptLength = 20_000;
/** The planner writes fragments out, and a short document in which they double one another would take it forever. */
const maxWrittenOut = 20_000;

/** Parses, validates and plans, each document once. */
export class Documents {
  readonly schema: GraphQLSchema;
  readonly #planner: QueryPlanner;
  readonly #known = new Map<string, PreparedDocument>();

  constructor(supergraph: string) {
    this.#planner = new QueryPlanner(supergraph);
    this.schema = publicSchema(this.#planner);
  }

  /**
   * Throws a GraphQLError, or several in an AggregateError, where the text is no document of the schema. `check` is asked
   * about a text that is not known.
   */
  prepare(text: string, check: (text: string) => void): PreparedDocument {
    const known = this.#known.get(text);
    if (known) {
      this.#known.delete(text);
      this.#known.set(text, known);
      return known;
    }
    check(text);
    const prepared = new PreparedDocument(text, this.schema, this.#planner);
    if (text.length <= maxKeptLength) this.#known.set(text, prepared);
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= maxDocuments) break;
      this.#known.delete(oldest);
    }
    return prepared;
  }
}

export class PreparedDocument {
  readonly #document: DocumentNode;
  readonly #schema: GraphQLSchema;
  readonly #planner: QueryPlanner;
  readonly #fragments = new Map<string, FragmentDefinitionNode>();
  readonly #hasConditions: boolean;
  readonly #operations = new Map<string | undefined, PreparedOperation>();

  constructor(text: string, schema: GraphQLSchema, planner: QueryPlanner) {
    this.#schema = schema;
    this.#planner = planner;
    this.#document = parseDocument(text);
    const problems = validate(schema, this.#document);
    if (problems.length > 0) throw new AggregateError(problems.map(withCode("GRAPHQL_VALIDATION_FAILED")));
    for (const definition of this.#document.definitions)
      if (definition.kind === "FragmentDefinition") this.#fragments.set(definition.name.value, definition);
    this.#hasConditions = /@(skip|include)\b/.test(text);
  }

  operation(name: string | undefined): PreparedOperation {
    const known = this.#operations.get(name);
    if (known) return known;
    const node = getOperationAST(this.#document, name);
    if (!node)
      throw new GraphQLError("Could not determine what operation to execute.", {
        extensions: { code: "OPERATION_RESOLUTION_FAILURE" },
      });
    const prepared = this.#prepare(node, name);
    this.#operations.set(name, prepared);
    return prepared;
  }

  #prepare(node: OperationDefinitionNode, name: string | undefined): PreparedOperation {
    const root = this.#schema.getRootType(node.operation);
    if (!root) throw new Error(`The schema has no ${node.operation}.`);
    const projectionOf = (variables: Record<string, unknown>) =>
      new Projection(this.#schema, this.#fragments, variables, root, node.selectionSet);
    const always = this.#hasConditions ? undefined : projectionOf({});
    const rootFields = this.#rootFields(node);
    const isMeta = rootFields.every((field) => field.startsWith("__"));
    if (!isMeta && rootFields.some((field) => field === "__schema" || field === "__type"))
      throw new AppError("BAD_USER_INPUT", "Ask for the schema in an operation of its own.");
    let plan: Plan | undefined;
    return {
      kind: node.operation,
      name,
      node,
      document: this.#document,
      isMeta,
      plan: () => {
        plan ??= this.#plan(node, name);
        return plan;
      },
      projection: (variables) => always ?? projectionOf(variables),
    };
  }

  #plan(operation: OperationDefinitionNode, name: string | undefined): Plan {
    if (this.#writtenOut(operation.selectionSet, new Map()) > maxWrittenOut)
      throw new AppError("TOKEN_LIMIT", `Fragments written out, an operation has up to ${maxWrittenOut} selections.`);
    const { node } = this.#planner.plan(print(this.#document), name, new Set(), 0);
    const [first, ...rest] = node?.kind === "Sequence" ? node.nodes : node ? [node] : [];
    if (first?.kind !== "Subscription") return { stream: undefined, run: prepareStep(node, this.#schema) };
    return {
      stream: { operation: operationOf(first.primary), variableUsages: first.primary.variableUsages },
      run: prepareStep({ kind: "Sequence", nodes: rest }, this.#schema),
    };
  }

  /** How many selections there are where each fragment stands in each of its places. */
  #writtenOut(set: SelectionSetNode, known: Map<string, number>): number {
    let count = 0;
    for (const selection of set.selections) {
      if (selection.kind !== "FragmentSpread") {
        count += 1 + (selection.selectionSet ? this.#writtenOut(selection.selectionSet, known) : 0);
        continue;
      }
      const name = selection.name.value;
      const fragment = this.#fragments.get(name);
      const inside = known.get(name) ?? (fragment ? this.#writtenOut(fragment.selectionSet, known) : 0);
      known.set(name, inside);
      count += 1 + inside;
    }
    return count;
  }

  #rootFields({ selectionSet }: OperationDefinitionNode): string[] {
    const fields = new Set<string>();
    const visited = new Set<unknown>();
    const visit = (set: typeof selectionSet): void => {
      if (visited.has(set)) return;
      visited.add(set);
      for (const selection of set.selections) {
        if (selection.kind === "Field") fields.add(selection.name.value);
        else if (selection.kind === "InlineFragment") visit(selection.selectionSet);
        else visit(this.#fragments.get(selection.name.value)?.selectionSet ?? { ...set, selections: [] });
      }
    };
    visit(selectionSet);
    return [...fields];
  }
}

/** What clients see of the supergraph. The planner writes the schema's own fields and types out, which are there by themselves. */
function publicSchema({ consumerSchema }: QueryPlanner): GraphQLSchema {
  const isOfSchema = (node: { name: { value: string } }) => (node.name.value.startsWith("__") ? null : undefined);
  const document = visit(parse(consumerSchema, { noLocation: true }), {
    FieldDefinition: isOfSchema,
    ObjectTypeDefinition: isOfSchema,
    EnumTypeDefinition: isOfSchema,
  });
  return buildASTSchema(document, { assumeValidSDL: true });
}

function parseDocument(text: string): DocumentNode {
  try {
    return parse(text);
  } catch (error) {
    throw error instanceof GraphQLError ? withCode("GRAPHQL_PARSE_FAILED")(error) : error;
  }
}

function withCode(code: string) {
  return (error: GraphQLError) =>
    new GraphQLError(error.message, {
      nodes: error.nodes ?? null,
      source: error.source ?? null,
      positions: error.positions ?? null,
      extensions: { ...error.extensions, code },
    });
}
