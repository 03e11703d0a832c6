import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { buildSchema, getIntrospectionQuery, getOperationAST, parse } from "graphql";
import { afterAll, expect, test } from "vitest";
import { Documents } from "../../gateway/documents.js";
import type { Answer } from "../../gateway/graph.js";
import { defaultLimits } from "../../gateway/limits/gateway-limits.js";
import { measure } from "../../gateway/limits/measure.js";
import { checkOperation } from "../../gateway/limits/operation-limits.js";
import { holding, SubscriptionPlaces } from "../../gateway/limits/subscription-places.js";
import { checkTrustedDocuments, documentId, readTrustedDocuments } from "../../gateway/limits/trusted-documents.js";
import { commandDocuments } from "../../schema/command.documents.js";
import { person } from "../support/services.js";

const schemaFile = path.resolve(import.meta.dirname, "../../schema/supergraph.graphql");
const schema = buildSchema(readFileSync(schemaFile, "utf8"), { assumeValidSDL: true });

const measured = (text: string, variables: Record<string, unknown> = {}) => {
  const document = parse(text);
  const operation = getOperationAST(document);
  if (!operation) throw new Error("no operation");
  return measure(schema, document, operation, variables);
};

test("pages multiply what is in them, by literals, variables and defaults; what says no size counts as a whole page", () => {
  const pages = (size: string) =>
    `computers(first: 10) { edges { node { partitions(${size}) { edges { node { key } } } } } }`;
  const cost = 1 + 10 * (1 + 1 + 7);
  expect(measured(`{ ${pages("first: 7")} }`).cost).toBe(cost);
  expect(measured(`query ($n: Int) { ${pages("last: $n")} }`, { n: 7 }).cost).toBe(cost);
  expect(measured(`query ($n: Int = 7) { ${pages("last: $n")} }`).cost).toBe(cost);
  expect(measured(`{ ${pages('after: "x"')} }`).cost).toBe(1 + 10 * (1 + 1 + 100));
  expect(measured(`query ($ids: [ID!]!) { nodes(ids: $ids) { id } }`, { ids: ["a", "b", "c"] }).cost).toBe(3);
  const whole = `computers(first: 100) { edges { node { partitions(first: 100) { edges { node { key instance { softwareRelease { product { name } } } } } } } } }`;
  expect(measured(`{ ${whole} }`)).toMatchObject({ cost: 40_201 });
  expect(measured(`{ ${whole} }`).cost).toBeLessThan(defaultLimits.cost);
});

test("fragments that double one another are measured at once, and cost what they would", () => {
  const levels = 60;
  const fragment = (number: number) => {
    const inside = number === levels ? "reference" : `a: parent { ...f${number + 1} } b: root { ...f${number + 1} }`;
    return `fragment f${number} on SoftwareInstance { ${inside} }`;
  };
  const text = `{ instance(reference: "x") { ...f0 } } ${Array.from({ length: levels + 1 }, (_, number) => fragment(number)).join("\n")}`;
  const { cost, aliases, depth } = measured(text);
  expect(cost).toBeGreaterThan(defaultLimits.cost);
  expect(aliases).toBeGreaterThan(defaultLimits.aliases);
  expect(depth).toBe(levels + 2);
});

test("the tools' introspection is within the limits, costs nothing and is known as what it is", () => {
  const { cost, depth, aliases, isIntrospection } = measured(getIntrospectionQuery());
  expect([cost, aliases, isIntrospection]).toEqual([0, 0, true]);
  expect(depth).toBeLessThanOrEqual(defaultLimits.depth);
  expect(measured("{ __typename }")).toEqual({ cost: 0, depth: 1, aliases: 0, isIntrospection: false });
});

test("a document that was within the limits is measured again where its variables say the sizes", () => {
  const documents = new Documents(readFileSync(schemaFile, "utf8"));
  const check = (text: string, variables: Record<string, unknown>) => {
    const operation = documents.prepare(text, () => undefined).operation(undefined);
    checkOperation(operation, variables, documents.schema, { ...defaultLimits, cost: 500 });
  };
  const pages =
    "query ($n: Int!) { computers(first: 100) { edges { node { partitions(first: $n) { edges { node { key } } } } } } }";
  const list =
    "query ($ids: [ID!]!) { nodes(ids: $ids) { ... on Computer { partitions(first: 9) { edges { node { key } } } } } }";
  const ids = (count: number) => Array.from({ length: count }, (_, number) => String(number));
  for (const [text, within, beyond] of [
    [pages, { n: 1 }, { n: 100 }],
    [list, { ids: ids(1) }, { ids: ids(100) }],
  ] as const) {
    check(text, within);
    expect(() => check(text, beyond)).toThrow("may ask for 500 objects");
    check(text, within);
  }
});

const folder = mkdtempSync("/tmp/sg-trusted-");
afterAll(() => rmSync(folder, { recursive: true }));

test("a folder of documents that are wrong ends the start with a sentence", () => {
  expect(() => readTrustedDocuments(`${folder}/none`)).toThrow(
    "SLAPGRAPH_TRUSTED_DOCUMENTS is wrong: it accepts a folder",
  );
  const manifest = path.join(folder, "manifest.json");
  writeFileSync(manifest, "{");
  expect(() => readTrustedDocuments(folder)).toThrow("is not JSON");
  writeFileSync(manifest, JSON.stringify({ [documentId("{ a }")]: "{ b }" }));
  expect(() => readTrustedDocuments(folder)).toThrow("is not the SHA-256 of its document");
  for (const text of ["{ nothing }", "{ computers("]) {
    writeFileSync(manifest, JSON.stringify({ [documentId(text)]: text }));
    expect(() => checkTrustedDocuments(readTrustedDocuments(folder), schema), text).toThrow(
      "SLAPGRAPH_TRUSTED_DOCUMENTS: ",
    );
  }
});

test("what the slapgraph command asks is among the trusted documents, and fits the schema", () => {
  rmSync(path.join(folder, "manifest.json"));
  const documents = readTrustedDocuments(folder);
  expect([...documents.values()]).toEqual(Object.values(commandDocuments));
  expect(() => checkTrustedDocuments(documents, schema)).not.toThrow();
});

test("a place is given back once, however its stream ends: at its end, broken, left, or never opened", async () => {
  const places = new SubscriptionPlaces(1);
  const vera = person("vera", "VIEWER");
  const hold = (open: () => unknown) =>
    holding(places.take(vera) ?? (() => expect.fail("no place")), async () => (await open()) as Answer);
  async function* events(breaks: boolean) {
    yield 1;
    if (breaks) throw new Error("broken");
  }
  type Stream = AsyncIterableIterator<unknown>;
  const ended = (await hold(() => events(false))) as Stream;
  expect(places.take(vera)).toBeNull();
  expect(places.take(person("vito", "VIEWER"))).not.toBeNull();
  for await (const _ of ended);
  const broken = (await hold(() => events(true))) as Stream;
  await broken.next();
  await expect(broken.next()).rejects.toThrow("broken");
  const left = (await hold(() => events(false))) as Stream;
  await left.return?.();
  await left.return?.();
  await hold(() => ({ errors: [] }));
  await expect(hold(() => Promise.reject(new Error("closed")))).rejects.toThrow("closed");
  expect([places.take(vera) === null, places.take(vera)]).toEqual([false, null]);
});
