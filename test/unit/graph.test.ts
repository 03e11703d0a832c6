import { buildSubgraphSchema } from "@apollo/subgraph";
import { type ExecutionResult, execute, parse } from "graphql";
import { beforeEach, expect, test } from "vitest";
import { composeSupergraph } from "../../gateway/compose.js";
import { Graph, type Params } from "../../gateway/graph.js";
import { defaultLimits } from "../../gateway/limits/gateway-limits.js";
import type { SubgraphRequest } from "../../gateway/transport.js";
import { testLog } from "../support/test-log.js";

const link = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.7", import: ["@key"])';
const sdl: Record<string, string> = {
  things: `${link}
    interface Named { id: ID! name: String }
    type Thing implements Named @key(fields: "id") { id: ID! name: String parts: [Part!]! }
    type Part @key(fields: "id") { id: ID! inside: Part }
    type Query { things: [Thing!]! named: [Named] }
    type Mutation { a: Int b: Int }`,
  weights: `${link}
    type Part @key(fields: "id") { id: ID! weight: Int tare: Int! }
    type Mutation { c: Int }`,
};
const part = (id: string, inside?: object) => ({ __typename: "Part", id, inside: inside ?? null });
const things = [
  { __typename: "Thing", id: "1", name: "one", parts: [part("p"), part("q", part("p"))] },
  { __typename: "Thing", id: "2", name: "two", parts: [part("p")] },
];
const order: string[] = [];
const told = (name: string) => () => void order.push(name);
const resolvers: Record<string, object> = {
  things: { Query: { things: () => things, named: () => things }, Mutation: { a: told("a"), b: told("b") } },
  weights: {
    Part: {
      __resolveReference: ({ id }: { id: string }) => ({ id }),
      weight: ({ id }: { id: string }) => {
        if (id === "q") throw new Error("too heavy");
        return id.length;
      },
      tare: () => 1,
    },
    Mutation: { c: told("c") },
  },
};

const asked: SubgraphRequest[] = [];
const away = new Set<string>();
const executors = new Map(
  Object.entries(sdl).map(([name, typeDefs]) => {
    const schema = buildSubgraphSchema([{ typeDefs: parse(typeDefs), resolvers: resolvers[name] as never }]);
    return [
      name,
      async (request: SubgraphRequest): Promise<ExecutionResult> => {
        asked.push(request);
        if (away.has(name))
          return { data: null, errors: [{ message: "away", extensions: { code: "UNAVAILABLE" } } as never] };
        return execute({ schema, document: request.document, variableValues: request.variables });
      },
    ];
  }),
);
const graph = new Graph({
  supergraph: composeSupergraph(Object.entries(sdl).map(([name, text]) => ({ name, sdl: text }))),
  executorOf: (name) => executors.get(name) as never,
  limits: defaultLimits,
  trustedDocuments: undefined,
  log: testLog,
});

async function ask(query: string, more: Params = {}): Promise<ExecutionResult> {
  const context = { caller: { kind: "administrator", subject: "test" } as const, authorization: "", requestId: "test" };
  const answer = (await graph.answer({ query, ...more }, context)) as ExecutionResult;
  return JSON.parse(JSON.stringify(answer)) as ExecutionResult;
}

beforeEach(() => {
  asked.length = order.length = 0;
  away.clear();
});

test("an entity is asked for once however often it stands in the answer, and is joined in each place", async () => {
  const { data } = await ask("{ things { parts { id tare inside { id tare } } } }");
  expect(data).toEqual({
    things: [
      {
        parts: [
          { id: "p", tare: 1, inside: null },
          { id: "q", tare: 1, inside: { id: "p", tare: 1 } },
        ],
      },
      { parts: [{ id: "p", tare: 1, inside: null }] },
    ],
  });
  const references = asked.slice(1).flatMap(({ variables }) => Object.values(variables ?? {}).flat());
  expect(references.filter((one) => (one as { id: string }).id === "q")).toHaveLength(1);
});

test("an error of an entity is told in each place where it stands, by the names that the client gave", async () => {
  const { data, errors } = await ask("{ all: things { pieces: parts { w: weight } } }");
  expect(data).toEqual({ all: [{ pieces: [{ w: 1 }, { w: null }] }, { pieces: [{ w: 1 }] }] });
  expect(errors).toMatchObject([{ path: ["all", 0, "pieces", 1, "w"] }]);
});

test("a subgraph that is away costs what it gives, and what may not be without it", async () => {
  away.add("weights");
  expect(await ask("{ things { id parts { weight } } }")).toMatchObject({
    data: { things: [{ id: "1", parts: [{ weight: null }, { weight: null }] }, { parts: [{ weight: null }] }] },
    errors: [{ extensions: { code: "UNAVAILABLE" } }],
  });
  expect(await ask("{ things { parts { tare } } }")).toMatchObject({ data: null, errors: [{ message: "away" }] });
  away.add("things");
  expect(await ask("{ named { name } }")).toMatchObject({ data: { named: null }, errors: [{ path: ["named"] }] });
});

test("one document is answered by the variables of each request", async () => {
  const query =
    "query ($yes: Boolean!) { things { id @skip(if: $yes) ... @include(if: $yes) { name } parts @include(if: $yes) { tare } } }";
  for (const yes of [true, false, true]) {
    const { data } = await ask(query, { variables: { yes } });
    const [first] = (data as { things: object[] }).things;
    expect(Object.keys(first ?? {})).toEqual(yes ? ["name", "parts"] : ["id"]);
  }
});

test("values of an interface are told by what it has, and by what each of them is", async () => {
  expect(await ask("{ named { name } }")).toEqual({ data: { named: [{ name: "one" }, { name: "two" }] } });
  const { data } = await ask("{ named { kind: __typename ... on Thing { id } ...n } } fragment n on Named { name }");
  expect(data).toMatchObject({ named: [{ kind: "Thing", id: "1", name: "one" }, {}] });
});

test("mutations of several subgraphs are done one after another in their order", async () => {
  expect(await ask("mutation { a c b }")).toEqual({ data: { a: null, c: null, b: null } });
  expect(order).toEqual(["a", "c", "b"]);
});

test("the schema is asked for alone, and a name only of the operations that there are", async () => {
  expect(await ask("{ __schema { queryType { name } } }")).toMatchObject({ data: { __schema: {} } });
  expect(await ask("{ __schema { queryType { name } } things { id } }")).toMatchObject({
    errors: [{ extensions: { code: "BAD_USER_INPUT" } }],
  });
  const two = "query A { things { id } } query B { __typename }";
  expect(await ask(two, { operationName: "B" })).toEqual({ data: { __typename: "Query" } });
  for (const operationName of [undefined, "C"])
    expect(await ask(two, { operationName })).toMatchObject({
      errors: [{ extensions: { code: "OPERATION_RESOLUTION_FAILURE" } }],
    });
});

test("fragments that double one another are refused before they are written out", async () => {
  const levels = 40;
  const fragment = (number: number) =>
    `fragment f${number} on Thing { ${number < levels ? `...f${number + 1} ...f${number + 1}` : "id"} }`;
  const query = `{ things { ...f0 } } ${Array.from({ length: levels + 1 }, (_, number) => fragment(number)).join(" ")}`;
  expect(await ask(query)).toMatchObject({ errors: [{ extensions: { code: "TOKEN_LIMIT" } }] });
  expect(asked).toEqual([]);
});
