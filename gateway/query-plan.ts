import type {
  EntityBatchAlias,
  FetchNode,
  FlattenNodePathSegment,
  InputRewrite,
  OutputRewrite,
  PlanNode,
  RequiresSelection,
} from "@graphql-hive/router-query-planner";
import {
  type DocumentNode,
  type ExecutionResult,
  GraphQLError,
  type GraphQLSchema,
  isAbstractType,
  parse,
} from "graphql";

/** What is asked of one subgraph: the planner's text, and what it parses to. */
export interface SubgraphOperation {
  subgraph: string;
  text: string;
  document: DocumentNode;
}

export type Fetch = (
  operation: SubgraphOperation,
  variables: Record<string, unknown> | undefined,
) => Promise<ExecutionResult>;

/** One execution of a plan: what it was given, and what it has fetched so far. */
export interface PlanRun {
  data: Record<string, unknown>;
  errors: GraphQLError[];
  variables: Record<string, unknown>;
  fetch: Fetch;
}

/** A piece of a plan, made ready once for all of its executions. Without a promise there was nothing to wait for. */
export type Step = (run: PlanRun) => Promise<unknown> | undefined;

const nothing: Step = () => undefined;

export function prepareStep(node: PlanNode | null | undefined, schema: GraphQLSchema): Step {
  switch (node?.kind) {
    case undefined:
      return nothing;
    case "Sequence":
      return sequence(node.nodes.map((one) => prepareStep(one, schema)));
    case "Parallel":
      return parallel(node.nodes.map((one) => prepareStep(one, schema)));
    case "Condition": {
      const { condition, ifClause, elseClause } = node;
      const [then, otherwise] = [prepareStep(ifClause, schema), prepareStep(elseClause, schema)];
      return (run) => (run.variables[condition] === true ? then(run) : otherwise(run));
    }
    case "Fetch":
      return rootFetch(node);
    case "BatchFetch":
      return entityFetch(operationOf(node), node.variableUsages, node.entityBatch.aliases, schema);
    case "Flatten": {
      const { node: fetch, path } = node;
      if (fetch.kind !== "Fetch") throw new Error(`The plan flattens a ${fetch.kind}.`);
      const { requires = [], inputRewrites = [], outputRewrites = [] } = fetch;
      const alias = { alias: "_entities", representationsVariableName: "representations", paths: [path] };
      return entityFetch(
        operationOf(fetch),
        fetch.variableUsages,
        [{ ...alias, requires, inputRewrites, outputRewrites }],
        schema,
      );
    }
    default:
      throw new Error(`The plan has a ${node?.kind}, which is not executed here.`);
  }
}

export function operationOf({
  serviceName,
  operation,
}: Pick<FetchNode, "serviceName" | "operation">): SubgraphOperation {
  return { subgraph: serviceName, text: operation, document: parse(operation, { noLocation: true }) };
}

export function pick(
  variables: Record<string, unknown>,
  names: readonly string[] | undefined,
): Record<string, unknown> | undefined {
  if (!names || names.length === 0) return undefined;
  const picked: Record<string, unknown> = {};
  for (const name of names) if (Object.hasOwn(variables, name)) picked[name] = variables[name];
  return picked;
}

function sequence(steps: Step[]): Step {
  return async (run) => {
    for (const step of steps) await step(run);
  };
}

function parallel(steps: Step[]): Step {
  return (run) => Promise.all(steps.map((step) => step(run)));
}

function rootFetch(node: FetchNode): Step {
  const operation = operationOf(node);
  const { variableUsages, outputRewrites = [] } = node;
  const [definition] = operation.document.definitions;
  const first = definition?.kind === "OperationDefinition" ? definition.selectionSet.selections[0] : undefined;
  const path = first?.kind === "Field" ? [first.alias?.value ?? first.name.value] : undefined;
  return async (run) => {
    const { data, errors } = await run.fetch(operation, pick(run.variables, variableUsages));
    for (const error of errors ?? []) run.errors.push(error.path || !path ? error : at(error, path));
    if (data) merge(run.data, rewritten(data, outputRewrites));
  };
}

type Path = readonly (string | number)[];

interface Place {
  entity: Record<string, unknown>;
  path: Path;
}

/** Joins what a subgraph adds to entities that others have given, each different one asked for once. */
function entityFetch(
  operation: SubgraphOperation,
  variableUsages: string[] | undefined,
  aliases: EntityBatchAlias[],
  schema: GraphQLSchema,
): Step {
  const parts = aliases.map(
    ({ alias, representationsVariableName, paths, requires, inputRewrites, outputRewrites }) => {
      const represent = (entity: Record<string, unknown>) => {
        const representation = project(requires, entity, schema);
        if (representation) representation.__typename ??= entity.__typename;
        return representation && rewritten(representation, inputRewrites ?? []);
      };
      return { alias, variable: representationsVariableName, paths, represent, outputRewrites: outputRewrites ?? [] };
    },
  );
  const fields = (parts[0]?.paths[0] ?? []).flatMap((segment) =>
    typeof segment === "object" && "Field" in segment ? [segment.Field] : [],
  );

  return async (run) => {
    const asked = new Map<string, { representations: unknown[]; indexes: Map<string, number> }>();
    const joins = parts.map((part) => {
      const known = asked.get(part.variable) ?? { representations: [], indexes: new Map<string, number>() };
      asked.set(part.variable, known);
      const places: Place[][] = [];
      for (const path of part.paths) {
        eachEntity(run.data, path, 0, [], schema, (place) => {
          const representation = part.represent(place.entity);
          if (!representation) return;
          const key = JSON.stringify(representation);
          const index = known.indexes.get(key) ?? known.representations.push(representation) - 1;
          known.indexes.set(key, index);
          places[index] ??= [];
          places[index].push(place);
        });
      }
      return { ...part, places };
    });
    const variables: Record<string, unknown> = { ...pick(run.variables, variableUsages) };
    let isEmpty = true;
    for (const [name, { representations }] of asked) {
      variables[name] = representations;
      isEmpty &&= representations.length === 0;
    }
    if (isEmpty) return;

    const { data, errors } = await run.fetch(operation, variables);
    for (const error of errors ?? []) {
      const [alias, index, ...rest] = error.path ?? [];
      const places = joins.find((one) => one.alias === alias)?.places[Number(index)];
      if (places) run.errors.push(...places.map(({ path }) => at(error, [...path, ...rest])));
      else run.errors.push(at(error, fields));
    }
    for (const { alias, places, outputRewrites } of joins) {
      const entities = (data as Record<string, unknown> | null | undefined)?.[alias];
      if (!Array.isArray(entities)) continue;
      for (const [index, entity] of rewritten(entities as unknown[], outputRewrites).entries())
        if (isObject(entity)) for (const place of places[index] ?? []) merge(place.entity, entity);
    }
  };
}

function eachEntity(
  value: unknown,
  segments: readonly FlattenNodePathSegment[],
  from: number,
  path: Path,
  schema: GraphQLSchema,
  take: (place: Place) => void,
): void {
  if (Array.isArray(value)) {
    const next = segments[from] === "@" ? from + 1 : from;
    for (const [index, item] of value.entries()) eachEntity(item, segments, next, [...path, index], schema, take);
    return;
  }
  if (!isObject(value)) return;
  const segment = segments[from];
  if (segment === undefined) {
    if (value.__typename != null) take({ entity: value, path });
  } else if (segment === "@") return;
  else if ("Field" in segment)
    eachEntity(value[segment.Field], segments, from + 1, [...path, segment.Field], schema, take);
  else if (segment.TypeCondition.some((condition) => isOf(value.__typename, condition, schema)))
    eachEntity(value, segments, from + 1, path, schema, take);
}

/** What the subgraph has to be told of an entity; null where the entity has nothing of it. */
function project(
  selections: readonly RequiresSelection[],
  entity: Record<string, unknown>,
  schema: GraphQLSchema,
): Record<string, unknown> | null {
  const projected: Record<string, unknown> = {};
  for (const selection of selections) {
    if (selection.kind === "InlineFragment") {
      if (isOf(entity.__typename, selection.typeCondition, schema))
        Object.assign(projected, project(selection.selections, entity, schema));
    } else if (selection.kind === "Field") {
      const key = selection.alias ?? selection.name;
      const value = projectValue(selection.selections, entity[selection.name] ?? entity[key], schema);
      if (value != null) projected[key] = value;
    }
  }
  return Object.keys(projected).some((key) => key !== "__typename") ? projected : null;
}

function projectValue(
  selections: readonly RequiresSelection[] | undefined,
  value: unknown,
  schema: GraphQLSchema,
): unknown {
  if (Array.isArray(value)) return value.map((item) => projectValue(selections, item, schema));
  return selections && isObject(value) ? project(selections, value, schema) : value;
}

/** An object that does not say its type is taken for what the plan says. */
function isOf(typeName: unknown, condition: string, schema: GraphQLSchema): boolean {
  if (typeof typeName !== "string" || typeName === condition) return true;
  const [type, abstract] = [schema.getType(typeName), schema.getType(condition)];
  return (
    isAbstractType(abstract) &&
    type?.astNode?.kind === "ObjectTypeDefinition" &&
    schema.isSubType(abstract, type as never)
  );
}

/** Where the planner asks under other names than the client's, or for another type's. */
function rewritten<T>(value: T, rewrites: readonly (InputRewrite | OutputRewrite)[]): T {
  for (const rewrite of rewrites) {
    const { path, ...change } =
      "KeyRenamer" in rewrite ? rewrite.KeyRenamer : "ValueSetter" in rewrite ? rewrite.ValueSetter : rewrite;
    rewriteAt(value, path, 0, change);
  }
  return value;
}

function rewriteAt(
  value: unknown,
  path: readonly ({ TypenameEquals: string[] } | { Key: string })[],
  from: number,
  rewrite: { renameKeyTo?: string; setValueTo?: string },
): void {
  if (Array.isArray(value)) {
    for (const item of value) rewriteAt(item, path, from, rewrite);
    return;
  }
  const segment = path[from];
  if (!isObject(value) || segment === undefined) return;
  if ("TypenameEquals" in segment) {
    if (typeof value.__typename !== "string" || segment.TypenameEquals.includes(value.__typename))
      rewriteAt(value, path, from + 1, rewrite);
  } else if (from < path.length - 1) rewriteAt(value[segment.Key], path, from + 1, rewrite);
  else if (rewrite.setValueTo !== undefined) value[segment.Key] = rewrite.setValueTo;
  else if (rewrite.renameKeyTo !== undefined) {
    value[rewrite.renameKeyTo] = value[segment.Key];
    delete value[segment.Key];
  }
}

/** Into what is there, in depth: two subgraphs may each give a part of one object. */
function merge(target: Record<string, unknown>, source: Record<string, unknown>): void {
  for (const [key, value] of Object.entries(source)) target[key] = merged(target[key], value);
}

function merged(before: unknown, value: unknown): unknown {
  if (isObject(before) && isObject(value)) {
    merge(before, value);
    return before;
  }
  if (Array.isArray(before) && Array.isArray(value) && before.length === value.length)
    return before.map((item, index) => merged(item, value[index]));
  return value ?? before ?? null;
}

function at(error: GraphQLError, path: Path): GraphQLError {
  return new GraphQLError(error.message, { path, extensions: error.extensions, originalError: error.originalError });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
