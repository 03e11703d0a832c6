import {
  buildClientSchema,
  type GraphQLSchema,
  getIntrospectionQuery,
  getNamedType,
  type IntrospectionQuery,
  isInterfaceType,
  isObjectType,
  isUnionType,
} from "graphql";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../common/embedded-postgres.js";
import { ServiceKey, serviceHeader } from "../../common/service-key.js";
import { routes as liveShacacheRoutes } from "../../shacache/routes.js";
import { documents as liveDocuments } from "../../slap/hateoas.js";
import { methods as liveMethods } from "../../slap/json-rpc.js";
import { routes as liveRoutes } from "../../slap/routes.js";
import {
  askDoor,
  askGraphql,
  askTls,
  compareCoverage,
  driveRow,
  idOf,
  listen,
  shownBy,
  withNames,
} from "../support/authority/drive.js";
import { entities } from "../support/authority/entities.table.js";
import {
  coveredByTheirRoot,
  fields,
  type GraphqlRow,
  mutations,
  nodes,
  queries,
  subscriptions,
} from "../support/authority/graphql.table.js";
import { callers, type Names, pairOf, type Scene, setScene } from "../support/authority/scene.js";
import { routes, triedMethods, triedTargets } from "../support/authority/shacache.table.js";
import { documents, endpoints, type MethodRow, methods, type SlapRow } from "../support/authority/slap.table.js";
import { RunningSystem, type Wiring } from "../support/running-system.js";

const wirings: Wiring[] = ["one process", "apart"];

describe.each(wirings)("%s", (wiring) => {
  let system: RunningSystem;
  let tlsUrl: string;
  let scene: Scene;

  beforeAll(async () => {
    const tlsPort = String(await freePort());
    tlsUrl = `https://127.0.0.1:${tlsPort}`;
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error", SLAPGRAPH_SLAP_TLS_PORT: tlsPort }, wiring);
    scene = await setScene(system);
  });

  afterAll(() => system.close());

  const schemaOf = async (url: string, mark: Record<string, string> = {}): Promise<GraphQLSchema> => {
    const response = await fetch(`${url}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${system.adminToken}`, ...mark },
      body: JSON.stringify({ query: getIntrospectionQuery() }),
    });
    return buildClientSchema(((await response.json()) as { data: IntrospectionQuery }).data);
  };

  const driveAll = async <Row>(rows: Record<string, Row>, drive: (name: string, row: Row) => Promise<string[]>) => {
    const wrong: string[] = [];
    for (const [name, row] of Object.entries(rows)) wrong.push(...(await drive(name, row)));
    expect(wrong.join("\n")).toBe("");
  };

  const operation =
    (kind: "query" | "mutation", isPart = false) =>
    (name: string, row: GraphqlRow) => {
      const [who, text] = row;
      const asked = kind === "query" ? text : text.replace(/ \}$/, " userErrors { code message path } }");
      const ask = (names: Names, token: string | null) =>
        askGraphql(system.gatewayUrl, `${kind} { ${withNames(asked, names)} }`, token, shownBy(row, names));
      return driveRow(name, who, scene, ask, isPart);
    };

  describe("the gateway", () => {
    test("every root field, every type with a global id and every field that leads to another visibility has a row", async () => {
      const schema = await schemaOf(system.gatewayUrl);
      const root = [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()];
      const isSeen = (type: string) => coveredByTheirRoot.some((form) => form.test(type));
      const leads: string[] = [];
      const shown = new Set(Object.keys(fields).filter((name) => restricted.has(name)));
      for (const type of Object.values(schema.getTypeMap())) {
        if (!isObjectType(type) || type.name.startsWith("__") || root.includes(type) || isSeen(type.name)) continue;
        for (const field of Object.values(type.getFields())) {
          const to = getNamedType(field.type);
          const isVisible = isObjectType(to) && (to.getInterfaces().length > 0 || to.name.endsWith("Connection"));
          if (isVisible || shown.has(`${type.name}.${field.name}`)) leads.push(`${type.name}.${field.name}`);
        }
      }
      const node = schema.getType("Node");
      const rooted = root.flatMap((type) =>
        Object.keys(type?.getFields() ?? {}).map((name) => `${type?.name}.${name}`),
      );
      const rows = { ...queries, ...mutations, ...subscriptions, "Query.node": 1, "Query.nodes": 1 };
      expect([
        ...compareCoverage(Object.keys(rows), rooted),
        ...compareCoverage(Object.keys(fields), leads),
        ...compareCoverage(
          Object.keys(nodes),
          isInterfaceType(node) ? schema.getImplementations(node).objects.map((type) => type.name) : [],
        ),
      ]).toEqual([]);
    });

    test("queries show each caller its own and nothing else", () => driveAll(queries, operation("query")));

    test("what a field leads to shows no more than a query would", () => driveAll(fields, operation("query", true)));

    test("node and nodes find what the caller sees", () =>
      driveAll(nodes, (type, [who, name]) =>
        driveRow(`node of ${type}`, who, scene, async (names, token) => {
          const id = idOf(type, names[name]);
          const query = `{ node(id: "${id}") { id } nodes(ids: ["${id}"]) { id } }`;
          const answer = await askGraphql(system.gatewayUrl, query, token, JSON.stringify(id));
          return { ...answer, text: answer.text.replaceAll(id, "<id>") };
        }),
      ));

    test("subscriptions tell each caller of its own and nothing else", () =>
      driveAll(subscriptions, async (name, row) => {
        const [who, text] = row;
        const query = `subscription { ${withNames(text, scene.present)} }`;
        const shown = shownBy(row, scene.present);
        // Whoever hears of it hears of it at once, by replay; the others are listened to for a while after that.
        const heard = Promise.withResolvers<void>();
        const answers = callers.map((caller) => listen(system, query, scene.tokens[caller], shown, heard.promise));
        await answers[callers.indexOf("administrator")];
        setTimeout(heard.resolve, quietMs);
        const answered = (await Promise.all(answers)).join("");
        return answered === who ? [] : [`${name}: is ${answered}, the table says ${who}`];
      }));

    test("mutations let in whom the table lets in, and tell the others nothing", () =>
      driveAll(mutations, operation("mutation")));
  });

  describe("the SLAP door", () => {
    const at = (token: string | null) => `${system.slapUrl}${token === null ? "" : `/k/${token}`}`;

    test("every endpoint, method and document has a row", () => {
      const live = Object.entries(liveRoutes).flatMap(([method, all]) =>
        Object.keys(all).map((name) => `${method} ${name}`),
      );
      expect([
        ...compareCoverage(Object.keys(endpoints), live),
        ...compareCoverage(Object.keys(methods), Object.keys(liveMethods)),
        ...compareCoverage(Object.keys(documents), Object.keys(liveDocuments)),
      ]).toEqual([]);
    });

    test("endpoints answer whom the table lets in, and tell the others nothing", () =>
      driveAll(endpoints, (name, [who, , , after]) => {
        const call = (row: string, names: Names, token: string | null) => {
          const [, fieldsOf, shows] = endpoints[row] as SlapRow;
          const [method = "", endpoint = ""] = row.split(" ");
          const form = new URLSearchParams(fieldsOf(names));
          const url = `${at(token)}/${endpoint}`;
          const shown = shows === undefined ? undefined : names[shows];
          return method === "GET" ? askDoor(`${url}?${form}`, {}, shown) : askDoor(url, { method, body: form }, shown);
        };
        return driveRow(name, who, scene, async (names, token) => {
          if (after !== undefined) await call(after, names, system.adminToken);
          return call(name, names, token);
        });
      }));

    test("by its client certificate a node or an instance is the caller that it is by token", async () => {
      const computer = { computer_guid: scene.present.computer };
      const node = await pairOf(system, system.adminToken, "post.v0.compute_node_certificate", computer);
      const rows = Object.entries(endpoints).filter(([name]) => !name.endsWith("ComputerCertificate"));
      await driveAll(Object.fromEntries(rows), async (name, [who, fieldsOf, shows]) => {
        const [method = "", endpoint = ""] = name.split(" ");
        const form = String(new URLSearchParams(fieldsOf(scene.present)));
        const [url, body] = method === "GET" ? [`${tlsUrl}/${endpoint}?${form}`, ""] : [`${tlsUrl}/${endpoint}`, form];
        const shown = shows === undefined ? undefined : scene.present[shows];
        const pairs = { node, instance: scene.instancePair };
        const wrong: string[] = [];
        for (const [caller, pair] of Object.entries(pairs)) {
          const { outcome } = await askTls(url, method, body, pair, shown);
          const expected = who[callers.indexOf(caller as keyof typeof pairs)];
          if (outcome !== expected)
            wrong.push(`${name}: a ${caller} with its certificate gets ${outcome}, not ${expected}`);
        }
        return wrong;
      });
    });

    test("methods answer whom the table lets in, and tell the others nothing", () =>
      driveAll(methods, (name, [who, , , after]) => {
        const call = (row: string, names: Names, token: string | null) => {
          const [, inputOf, shows] = methods[row] as MethodRow;
          const headers = { "content-type": "application/json" };
          const init = { method: "POST", headers, body: JSON.stringify(inputOf(names)) };
          const shown = shows !== undefined && shows in names ? names[shows as keyof Names] : shows;
          return askDoor(`${at(token)}/slapos.${row}`, init, shown);
        };
        return driveRow(name, who, scene, async (names, token) => {
          if (after !== undefined) await call(after, names, system.adminToken);
          return call(name, names, token);
        });
      }));

    test("documents show each caller its own and nothing else", () =>
      driveAll(documents, (name, [who, targetOf, shows]) =>
        driveRow(
          name,
          who,
          scene,
          (names, token) =>
            askDoor(`${at(token)}/${targetOf(names)}`, {}, shows === undefined ? undefined : names[shows]),
          shows === "secret",
        ),
      ));
  });

  describe("the Shacache door", () => {
    const at = (token: string | null) => `${system.shacacheUrl}${token === null ? "" : `/k/${token}`}`;

    test("every route has a row", () => {
      expect(compareCoverage(Object.keys(routes), Object.keys(liveShacacheRoutes))).toEqual([]);
    });

    test("routes answer whom the table lets in", () =>
      driveAll(routes, (name, [who, targetOf, body]) =>
        driveRow(name, who, scene, (names, token) =>
          askDoor(`${at(token)}${targetOf(names)}`, { method: name.split(" ")[0] ?? "", ...(body ? { body } : {}) }),
        ),
      ));

    test("whatever has no row is not there", async () => {
      for (const [form, target] of Object.entries(triedTargets)) {
        for (const method of triedMethods) {
          if (`${method} ${form}` in routes) continue;
          const response = await fetch(`${at(system.adminToken)}${target}`, { method });
          expect([404, 405], `${method} ${form} is answered with ${response.status}`).toContain(response.status);
        }
      }
    });
  });

  // In one process nobody outside reaches a subgraph.
  if (wiring === "one process") return;

  describe("the subgraphs, asked as the gateway asks them", () => {
    test("every type that _entities resolves has a row, and shows each caller its own and nothing else", async () => {
      const live: string[] = [];
      const mark = { [serviceHeader]: (await ServiceKey.open(system.dataDir)).sign() };
      for (const [name, url] of system.subgraphUrls) {
        const union = (await schemaOf(url, mark)).getType("_Entity");
        if (isUnionType(union)) live.push(...union.getTypes().map((type) => `${name}.${type.name}`));
      }
      expect(compareCoverage(Object.keys(entities), live)).toEqual([]);
      await driveAll(entities, (row, [who, name, selection, shows]) => {
        const [subgraph = "", type = ""] = row.split(".");
        const url = system.subgraphUrls.get(subgraph) ?? "";
        return driveRow(`_entities of ${row}`, who, scene, async (names, token) => {
          const id = idOf(type, names[name]);
          const representation = `{ __typename: "${type}", id: "${id}" }`;
          const query = `{ _entities(representations: [${representation}]) { ... on ${type} { ${selection} } } }`;
          const answer = await askGraphql(
            url,
            query,
            token,
            JSON.stringify(selection === "id" ? id : names[shows]),
            mark,
          );
          return { ...answer, text: answer.text.replaceAll(id, "<id>") };
        });
      });
    });
  });
});

/** Fields of plain values that not everybody who sees the rest may read. */
const restricted = new Set(["SoftwareInstance.connectionParameters", "Person.roles"]);
const quietMs = 500;
