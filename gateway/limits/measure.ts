import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  getNullableType,
  isInterfaceType,
  isLeafType,
  isListType,
  isObjectType,
  type OperationDefinitionNode,
  type SelectionNode,
  type SelectionSetNode,
  type ValueNode,
} from "graphql";
import { maxPageSize } from "../../common/pagination.js";

/** How much an operation asks for, before anything is asked of a subgraph. */
export interface Measures {
  /** Levels of fields, the leaves counted. */
  depth: number;
  /** Fields that are asked for under another name. */
  aliases: number;
  /** Objects that the answer may have: the pages of connections multiply what is in them. */
  cost: number;
  /** Whether it asks for the schema itself. */
  isIntrospection: boolean;
}

/** What a list that has no pages is taken to hold. */
const assumedListSize = 10;
/** Beyond every limit, and far enough from where numbers lose their units. */
const most = 1e12;
const nothing: Measures = { depth: 0, aliases: 0, cost: 0, isIntrospection: false };

/**
 * Measures a valid operation. Each fragment is measured once however often it is spread: a document in which fragments
 * double one another has few tokens and would take forever to write out.
 */
export function measure(
  schema: GraphQLSchema,
  document: DocumentNode,
  operation: OperationDefinitionNode,
  variables: Record<string, unknown>,
): Measures {
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions)
    if (definition.kind === "FragmentDefinition") fragments.set(definition.name.value, definition);
  const known = new Map<string, Measures>();
  const sizes = new ListSizes(operation, variables);

  const ofSet = (set: SelectionSetNode, type: GraphQLNamedType | undefined): Measures => {
    const total = { ...nothing };
    for (const selection of set.selections) {
      const one = ofSelection(selection, type);
      total.depth = Math.max(total.depth, one.depth);
      total.aliases = Math.min(most, total.aliases + one.aliases);
      total.cost = Math.min(most, total.cost + one.cost);
      total.isIntrospection ||= one.isIntrospection;
    }
    return total;
  };

  const ofSelection = (selection: SelectionNode, type: GraphQLNamedType | undefined): Measures => {
    if (selection.kind === "Field") return ofField(selection, type);
    if (selection.kind === "InlineFragment") {
      const condition = selection.typeCondition?.name.value;
      return ofSet(selection.selectionSet, condition === undefined ? type : schema.getType(condition));
    }
    const name = selection.name.value;
    const fragment = fragments.get(name);
    const measured = known.get(name);
    if (measured || !fragment) return measured ?? nothing;
    known.set(name, nothing);
    const measures = ofSet(fragment.selectionSet, schema.getType(fragment.typeCondition.name.value));
    known.set(name, measures);
    return measures;
  };

  const ofField = (field: FieldNode, type: GraphQLNamedType | undefined): Measures => {
    const name = field.name.value;
    const aliases = field.alias ? 1 : 0;
    const isSchema = name === "__schema" || name === "__type";
    const definition = isObjectType(type) || isInterfaceType(type) ? type.getFields()[name] : undefined;
    const to = isSchema ? schema.getType(name === "__schema" ? "__Schema" : "__Type") : definedType(definition);
    if (!field.selectionSet || !to) return { ...nothing, depth: 1, aliases };
    const inside = ofSet(field.selectionSet, to);
    const isFree = to.name.startsWith("__") || to.name === "PageInfo";
    return {
      depth: inside.depth + 1,
      aliases: Math.min(most, inside.aliases + aliases),
      cost: isFree || !definition ? 0 : Math.min(most, costOf(definition, field, to, inside.cost)),
      isIntrospection: inside.isIntrospection || isSchema,
    };
  };

  const costOf = (
    definition: GraphQLField<unknown, unknown>,
    field: FieldNode,
    to: GraphQLNamedType,
    inside: number,
  ) => {
    // A connection is a page of edges, and an edge no more than its node.
    if (to.name.endsWith("Connection")) return 1 + sizes.ofPage(field) * inside;
    if (to.name.endsWith("Edge")) return inside;
    return isListType(getNullableType(definition.type)) ? sizes.ofList(field) * (1 + inside) : 1 + inside;
  };

  return ofSet(operation.selectionSet, rootOf(schema, operation));
}

function rootOf(schema: GraphQLSchema, { operation }: OperationDefinitionNode) {
  if (operation === "query") return schema.getQueryType() ?? undefined;
  return (operation === "mutation" ? schema.getMutationType() : schema.getSubscriptionType()) ?? undefined;
}

function definedType(definition: GraphQLField<unknown, unknown> | undefined): GraphQLNamedType | undefined {
  const type = definition && getNamedType(definition.type);
  return isLeafType(type) ? undefined : type;
}

/** How many items a field's arguments ask for. */
class ListSizes {
  readonly #variables: Record<string, unknown>;
  readonly #defaults = new Map<string, ValueNode>();

  constructor(operation: OperationDefinitionNode, variables: Record<string, unknown>) {
    this.#variables = variables;
    for (const { variable, defaultValue } of operation.variableDefinitions ?? [])
      if (defaultValue) this.#defaults.set(variable.name.value, defaultValue);
  }

  /** `first` or `last`; a page that says neither is refused later, and taken for a whole one here. */
  ofPage(field: FieldNode): number {
    for (const name of ["first", "last"]) {
      const size = this.#valueOf(field, name);
      if (typeof size === "number") return Math.max(0, size);
    }
    return maxPageSize;
  }

  /** As many as ids were given, or what any list is taken for. */
  ofList(field: FieldNode): number {
    const ids = this.#valueOf(field, "ids");
    return Array.isArray(ids) ? ids.length : assumedListSize;
  }

  #valueOf(field: FieldNode, name: string): unknown {
    const value = field.arguments?.find((argument) => argument.name.value === name)?.value;
    if (value?.kind !== "Variable") return value && plain(value);
    const given = this.#variables[value.name.value];
    const otherwise = this.#defaults.get(value.name.value);
    return given === undefined && otherwise ? plain(otherwise) : given;
  }
}

function plain(value: ValueNode): unknown {
  if (value.kind === "IntValue") return Number(value.value);
  return value.kind === "ListValue" ? value.values : null;
}
