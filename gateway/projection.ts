import {
  type FieldNode,
  type FragmentDefinitionNode,
  type GraphQLCompositeType,
  GraphQLIncludeDirective,
  type GraphQLObjectType,
  type GraphQLOutputType,
  type GraphQLSchema,
  GraphQLSkipDirective,
  getDirectiveValues,
  isAbstractType,
  isCompositeType,
  isInterfaceType,
  isListType,
  isNonNullType,
  isObjectType,
  type SelectionNode,
  type SelectionSetNode,
  TypeNameMetaFieldDef,
} from "graphql";

/** The selections under one field of the answer: more than one set where the document asks for the field in several places. */
type Selections = readonly SelectionSetNode[];

interface Field {
  key: string;
  type: GraphQLOutputType;
  selections: Selections;
}

/** In the place of a value that is null and may not be: what holds it is null then. */
const missing = Symbol("missing");

/**
 * Makes an operation's answer out of what its plan fetched: the fields that were asked for, in their order, and null where
 * a subgraph gave nothing, as far up as the schema wants it.
 */
export class Projection {
  readonly #schema: GraphQLSchema;
  readonly #fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  readonly #variables: Record<string, unknown>;
  readonly #root: GraphQLObjectType;
  readonly #selections: Selections;
  /** Collected once for all values of a type that stand in one place of the answer. */
  readonly #fields = new Map<Selections, Map<GraphQLCompositeType, Field[]>>();

  constructor(
    schema: GraphQLSchema,
    fragments: ReadonlyMap<string, FragmentDefinitionNode>,
    variables: Record<string, unknown>,
    root: GraphQLObjectType,
    selectionSet: SelectionSetNode,
  ) {
    this.#schema = schema;
    this.#fragments = fragments;
    this.#variables = variables;
    this.#root = root;
    this.#selections = [selectionSet];
  }

  of(data: Record<string, unknown>): Record<string, unknown> | null {
    return this.#object(data, this.#root, this.#selections);
  }

  #value(value: unknown, type: GraphQLOutputType, selections: Selections): unknown {
    if (isNonNullType(type)) return this.#value(value, type.ofType, selections) ?? missing;
    if (value === null || value === undefined) return null;
    if (isListType(type)) return this.#list(value, type.ofType, selections);
    return isCompositeType(type) ? this.#object(value, type, selections) : value;
  }

  #list(value: unknown, type: GraphQLOutputType, selections: Selections): unknown[] | null {
    if (!Array.isArray(value)) return null;
    const items: unknown[] = [];
    for (const one of value) {
      const item = this.#value(one, type, selections);
      if (item === missing) return null;
      items.push(item);
    }
    return items;
  }

  #object(value: unknown, type: GraphQLCompositeType, selections: Selections): Record<string, unknown> | null {
    if (typeof value !== "object" || value === null) return null;
    const given = value as Record<string, unknown>;
    const actual = this.#typeOf(given, type);
    if (!actual) return null;
    const answer: Record<string, unknown> = {};
    for (const field of this.#fieldsOf(selections, actual)) {
      const { key } = field;
      const one =
        field.type === TypeNameMetaFieldDef.type ? actual.name : this.#value(given[key], field.type, field.selections);
      if (one === missing) return null;
      answer[key] = one;
    }
    return answer;
  }

  /** A value of an abstract type says which it is wherever the document makes a difference between them. */
  #typeOf(value: Record<string, unknown>, type: GraphQLCompositeType): GraphQLCompositeType | null {
    if (!isAbstractType(type) || typeof value.__typename !== "string") return type;
    const actual = this.#schema.getType(value.__typename);
    return isObjectType(actual) ? actual : null;
  }

  #fieldsOf(selections: Selections, type: GraphQLCompositeType): Field[] {
    const known = this.#fields.get(selections) ?? new Map<GraphQLCompositeType, Field[]>();
    this.#fields.set(selections, known);
    let fields = known.get(type);
    if (!fields) {
      fields = this.#collect(selections, type);
      known.set(type, fields);
    }
    return fields;
  }

  /** As the specification's CollectFields. */
  #collect(selections: Selections, type: GraphQLCompositeType): Field[] {
    const byKey = new Map<string, { node: FieldNode; selections: SelectionSetNode[] }>();
    const visited = new Set<string>();
    const visit = (selection: SelectionNode): void => {
      if (!this.#isIncluded(selection)) return;
      if (selection.kind === "Field") {
        const key = selection.alias?.value ?? selection.name.value;
        const field = byKey.get(key) ?? { node: selection, selections: [] };
        byKey.set(key, field);
        if (selection.selectionSet) field.selections.push(selection.selectionSet);
        return;
      }
      let inside: FragmentDefinitionNode | typeof selection = selection;
      if (selection.kind === "FragmentSpread") {
        const name = selection.name.value;
        const fragment = this.#fragments.get(name);
        if (!fragment || visited.has(name)) return;
        visited.add(name);
        inside = fragment;
      }
      if (inside.kind === "FragmentSpread" || !this.#applies(inside.typeCondition?.name.value, type)) return;
      for (const one of inside.selectionSet.selections) visit(one);
    };
    for (const set of selections) for (const selection of set.selections) visit(selection);
    return [...byKey].flatMap(([key, field]) => {
      const name = field.node.name.value;
      if (name === "__typename") return [{ key, type: TypeNameMetaFieldDef.type, selections: [] }];
      const definition = isObjectType(type) || isInterfaceType(type) ? type.getFields()[name] : undefined;
      return definition ? [{ key, type: definition.type, selections: field.selections }] : [];
    });
  }

  #isIncluded(selection: SelectionNode): boolean {
    if (!selection.directives?.length) return true;
    if (getDirectiveValues(GraphQLSkipDirective, selection, this.#variables)?.if === true) return false;
    return getDirectiveValues(GraphQLIncludeDirective, selection, this.#variables)?.if !== false;
  }

  #applies(condition: string | undefined, type: GraphQLCompositeType): boolean {
    if (condition === undefined || condition === type.name) return true;
    const conditional = this.#schema.getType(condition);
    return isAbstractType(conditional) && isObjectType(type) && this.#schema.isSubType(conditional, type);
  }
}
