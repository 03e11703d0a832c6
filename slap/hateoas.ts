import { AppError } from "../common/errors.js";
import type { InstanceRow } from "../subgraphs/computer/instance/instance.service.js";
import { mayReadConnection } from "../subgraphs/computer/visibility.js";
import type { SlapCall } from "./call.js";
import { accessStatus, toWireParameters } from "./codec.js";
import type { SlapAnswer, SlapServices } from "./routes.js";

/** The hypermedia that `slapos service` and `slapos computer` read (§8.6): five commands' worth of the ERP5 master's. */
export const hateoasPath = "hateoas";

const treeQuery = 'portal_type:"Instance Tree" AND validation_state:validated';
const computerQuery = 'portal_type:"Compute Node" AND validation_state:validated';
const maxRows = 1_000;

export function isHateoas(endpoint: string): boolean {
  return endpoint === hateoasPath || endpoint.startsWith(`${hateoasPath}/`);
}

export const documents: Record<string, (call: SlapCall, services: SlapServices) => Promise<object>> = {
  root: async ({ baseUrl }) => rootDocument(`${baseUrl}/${hateoasPath}`),
  search: async (call, services) => ({ _embedded: { contents: await search(call, services) } }),
  traverse,
  "computer_module/Base_getComputerToken": computerToken,
};

/** A document has a path of its own, or the mode of the one at the root. */
export async function answerHateoas(call: SlapCall, services: SlapServices): Promise<SlapAnswer> {
  const path = call.endpoint.slice(hateoasPath.length).replace(/^\//, "");
  const name = path === "" ? (call.fields.get("mode") ?? "root") : path;
  const answer = Object.hasOwn(documents, name) ? documents[name] : undefined;
  if (answer) return { json: await answer(call, services) };
  if (path === "") throw new AppError("BAD_USER_INPUT", "The mode is search or traverse.");
  throw new AppError("NOT_FOUND", "There is no such document.");
}

function rootDocument(self: string) {
  return {
    _links: {
      self: { href: self },
      raw_search: { href: `${self}?mode=search&query={query}&select_list={select_list}` },
      traverse: { href: `${self}?mode=traverse&relative_url={relative_url}&view={view}` },
    },
  };
}

/** The rows of one of the four queries that the client sends; a query of another form is refused. */
async function search({ caller, fields }: SlapCall, { nodeViews, computers }: SlapServices): Promise<object[]> {
  const query = fields.get("query") ?? "";
  if (query === treeQuery || query.startsWith(`${treeQuery} AND title:=`)) {
    const title = quotedAfter(query, `${treeQuery} AND title:=`);
    const rows = title === null ? await nodeViews.trees(caller) : await oneTree(caller, title, nodeViews);
    return rows.map((row) => ({
      title: row.title,
      url_string: row.releaseUrl,
      relative_url: `instance_tree/${row.reference}`,
    }));
  }
  if (query === computerQuery || query.startsWith(`${computerQuery} AND reference:=`)) {
    const reference = quotedAfter(query, `${computerQuery} AND reference:=`);
    const page = { limit: maxRows, backward: false, after: null, before: null };
    const rows =
      reference === null
        ? (await computers.computers(caller, page)).slice(0, maxRows)
        : (await computers.computersByReference(caller, [reference])).filter((row) => row !== null);
    return rows.map((row) => ({
      title: row.title,
      reference: row.reference,
      relative_url: `computer/${row.reference}`,
    }));
  }
  throw new AppError("BAD_USER_INPUT", "This query is not one that the slapos command line sends.");
}

async function oneTree(
  caller: SlapCall["caller"],
  title: string,
  nodeViews: SlapServices["nodeViews"],
): Promise<InstanceRow[]> {
  try {
    return [(await nodeViews.treeOf(caller, title)).instance];
  } catch (error) {
    // None is an empty list, which the client reads as "does not exist".
    if (error instanceof AppError && error.code === "NOT_FOUND") return [];
    throw error;
  }
}

/** The value of `title:="…"`, which the client does not escape. Null where the query has none. */
function quotedAfter(query: string, prefix: string): string | null {
  if (!query.startsWith(prefix)) return null;
  const quoted = query.slice(prefix.length);
  if (quoted.length < 2 || !quoted.startsWith('"') || !quoted.endsWith('"'))
    throw new AppError("BAD_USER_INPUT", "The value in the query is not quoted.");
  return quoted.slice(1, -1);
}

async function traverse(call: SlapCall, services: SlapServices): Promise<object> {
  const [, kind, reference] = /^(instance_tree|computer)\/([^/]+)$/.exec(call.fields.get("relative_url") ?? "") ?? [];
  if (kind === "instance_tree" && reference) return treeDocument(call, reference, services);
  if (kind === "computer" && reference) return computerDocument(call, reference, services);
  throw new AppError("NOT_FOUND", "There is no such document.");
}

async function computerDocument({ caller }: SlapCall, reference: string, { computers }: SlapServices) {
  const [row] = await computers.computersByReference(caller, [reference]);
  if (!row) throw new AppError("NOT_FOUND", "There is no such computer.");
  return document("Compute Node", {
    my_reference: text(row.reference),
    my_title: text(row.title),
  });
}

async function treeDocument({ caller }: SlapCall, reference: string, { nodeViews }: SlapServices) {
  const { instance } = await nodeViews.instanceOf(caller, reference);
  const visible = mayReadConnection(caller) ? instance.connectionParameters : {};
  return document("Instance Tree", {
    my_reference: text(instance.reference),
    my_title: text(instance.title),
    my_slap_state: text(instance.requestedState.toLowerCase()),
    my_url_string: text(instance.releaseUrl),
    my_source_reference: text(instance.softwareType),
    my_root_slave: { type: "IntegerField", key: "field_my_root_slave", default: instance.isShared ? 1 : 0 },
    my_text_content: text(toInstanceXml(toWireParameters(instance.parameters))),
    my_connection_parameter_list: {
      type: "StringField",
      key: "field_my_connection_parameter_list",
      default: Object.entries(visible).map(([key, value]) => ({ connection_key: key, connection_value: value })),
    },
    my_news: {
      type: "StringField",
      key: "field_my_news",
      default: {
        instance: (await nodeViews.membersOf(caller, instance)).map((member) => ({ text: accessStatus(member) })),
      },
    },
  });
}

function document(portalType: string, fields: Record<string, object>) {
  return {
    _links: { type: { name: portalType } },
    _embedded: { _view: { form_id: { type: "StringField", key: "form_id", default: "view" }, ...fields } },
  };
}

function text(value: string) {
  return { type: "StringField", key: "field", default: value };
}

/** How the ERP5 master stores parameters, single escaping; the client's `xml2dict` reads it. */
export function toInstanceXml(parameters: Record<string, string>): string {
  const rows = Object.entries(parameters).map(
    ([id, value]) => `  <parameter id="${toXmlText(id)}">${toXmlText(value)}</parameter>\n`,
  );
  return `<?xml version='1.0' encoding='utf-8'?>\n<instance>\n${rows.join("")}</instance>\n`;
}

const entities: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  // As they are, a reader makes a line feed of the last one in text, and a space of each in an attribute.
  "\t": "&#9;",
  "\n": "&#10;",
  "\r": "&#13;",
};

function toXmlText(value: string): string {
  return (
    value
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are illegal in XML, escaped or not.
      .replaceAll(/[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g, "")
      .replaceAll(/[&<>"\t\n\r]/g, (one) => entities[one] ?? one)
  );
}

/** `slapos computer token`: a one-time token for `slapos node register`. */
async function computerToken({ caller }: SlapCall, { registrations }: SlapServices): Promise<object> {
  const { secret } = await registrations.createRegistrationToken(caller, {});
  return { access_token: secret };
}
