import https from "node:https";
import { parseGlobalId, toGlobalId } from "../../../common/global-id.js";
import type { RunningSystem } from "../running-system.js";
import type { GraphqlRow } from "./graphql.table.js";
import { callers, type Names, type Scene } from "./scene.js";

/** What came back: the letters of the tables, or `?` and a code that none of them is for. */
export interface Answer {
  outcome: string;
  /** As the caller reads it, with the names that it gave taken out: what is hidden has to read like what is absent. */
  text: string;
}

type Ask = (names: Names, token: string | null) => Promise<Answer>;

/** Answers of a command that was let in and found its work done, or its turn not come. */
const letIn = new Set(["NOT_READY", "STATE_CONFLICT", "ALREADY_EXISTS"]);
const letters: Record<string, string> = { UNAUTHENTICATED: "!", FORBIDDEN: "f", NOT_FOUND: "." };

/**
 * Asks as each caller, and compares what is hidden from one with what does not exist; not where a part of what is seen is
 * hidden. Returns what is wrong, in words.
 */
export async function driveRow(row: string, who: string, scene: Scene, ask: Ask, isPart = false): Promise<string[]> {
  if (who.length !== callers.length) return [`${row}: ${who} is not a letter for each of ${callers.join(", ")}`];
  const wrong: string[] = [];
  let answered = "";
  for (const caller of callers) {
    const token = scene.tokens[caller];
    const names = { ...scene.present, new: newName() };
    const answer = await ask(names, token);
    answered += answer.outcome;
    if (answer.outcome !== "." || isPart) continue;
    const nothing = await ask({ ...scene.absent, new: names.new }, token);
    const [hidden, absent] = [plain(answer.text, scene), plain(nothing.text, scene)];
    if (hidden !== absent)
      wrong.push(`${row}: ${caller} reads of what is hidden\n  ${hidden}\nand of nothing\n  ${absent}`);
  }
  if (answered !== who) wrong.push(`${row}: is ${answered}, the table says ${who}`);
  return wrong;
}

let newNames = 0;
const newName = () => `new-${++newNames}`;

/** Names stand for themselves, longest first, so that what differs is what gives something away. */
function plain(text: string, { present, absent }: Scene): string {
  const known = [present, absent].flatMap((all) => Object.entries(all));
  known.sort(([, a], [, b]) => b.length - a.length);
  return known.reduce((so, [name, value]) => so.replaceAll(value, `<${name}>`), text);
}

/** Writes the names into an operation, as GraphQL strings. */
export function withNames(text: string, names: Names): string {
  return text.replaceAll(/\$(\w+)/g, (_, name: keyof Names) => JSON.stringify(names[name]));
}

/** The piece of an answer that shows that a row's thing was seen: what it says, or the first name that it speaks of. */
export function shownBy([, text, shows]: GraphqlRow, names: Names): string {
  if (shows?.startsWith("=")) return shows.slice(1);
  const name = shows ?? /\$(\w+)/.exec(text)?.[1];
  return JSON.stringify(names[name as keyof Names]);
}

/** The global id of a name of the scene, which may be one already. */
export function idOf(type: string, name: string): string {
  if (parseGlobalId(name)?.type === type) return name;
  return toGlobalId(type, type === "SoftwareProduct" ? `main/${name}` : name);
}

interface GraphqlAnswer {
  data?: unknown;
  errors?: { message: string; extensions?: { code?: string } }[];
}

/** One operation at the gateway, or at a subgraph, over HTTP. */
export async function askGraphql(
  url: string,
  query: string,
  token: string | null,
  shown: string,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const response = await fetch(`${url}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", ...bearer(token), ...headers },
    body: JSON.stringify({ query }),
  });
  const text = await response.text();
  const answer = JSON.parse(text) as GraphqlAnswer;
  return { outcome: outcomeOf(answer, shown), text };
}

export function bearer(token: string | null): Record<string, string> {
  return token === null ? {} : { authorization: `Bearer ${token}` };
}

function outcomeOf({ data, errors }: GraphqlAnswer, shown: string): string {
  const read = JSON.stringify(data ?? null);
  if (read.includes(shown)) return "y";
  const refused = [...read.matchAll(/"userErrors":\[\{"code":"(\w+)"/g)].map((match) => match[1] ?? "");
  const code = errors?.[0] ? (errors[0].extensions?.code ?? "without a code") : refused[0];
  return code === undefined ? "." : letterOf(code);
}

function letterOf(code: string): string {
  return letters[code] ?? (letIn.has(code) ? "y" : `?${code} `);
}

/** One request at a door that speaks in statuses; the code is the first word of the answer, or in its header. */
export async function askDoor(url: string, init: RequestInit, shown?: string): Promise<Answer> {
  const response = await fetch(url, init);
  return toAnswer(response.status, response.headers.get("x-error-code"), await response.text(), shown);
}

export interface KeyPair {
  certificate: string;
  key: string;
}

/** The same over TLS, by whom a client certificate says. */
export function askTls(url: string, method: string, body: string, pair: KeyPair, shown?: string): Promise<Answer> {
  const headers = method === "GET" ? {} : { "content-type": "application/x-www-form-urlencoded" };
  return new Promise((resolve, reject) => {
    const options = { method, headers, cert: pair.certificate, key: pair.key, rejectUnauthorized: false };
    const request = https.request(url, options, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => {
        const code = response.headers["x-error-code"];
        const text = Buffer.concat(chunks).toString("utf8");
        resolve(toAnswer(response.statusCode ?? 0, typeof code === "string" ? code : null, text, shown));
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

function toAnswer(status: number, errorCode: string | null, text: string, shown: string | undefined): Answer {
  const code = errorCode ?? /^([A-Z_]+):/.exec(text)?.[1];
  if (code !== undefined) return { outcome: letterOf(code), text };
  if (status === 404) return { outcome: ".", text };
  if (status >= 300) return { outcome: `?${status} `, text };
  return { outcome: shown === undefined || text.includes(shown) ? "y" : ".", text };
}

/** As which callers a subscription, replayed from its beginning, tells of something; anonymous is refused before it opens. */
export async function listen(
  system: RunningSystem,
  query: string,
  token: string | null,
  shown: string,
  isOver: Promise<unknown>,
): Promise<string> {
  const stop = new AbortController();
  const response = await fetch(`${system.gatewayUrl}/graphql`, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream", ...bearer(token) },
    body: JSON.stringify({ query }),
    signal: stop.signal,
  });
  if (response.status === 401) return "!";
  void isOver.then(() => stop.abort());
  let text = "";
  try {
    const decoder = new TextDecoder();
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += decoder.decode(chunk, { stream: true });
      if (text.includes(shown)) break;
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  }
  stop.abort();
  const code = /"code":"(\w+)"/.exec(text)?.[1];
  if (code !== undefined) return letterOf(code);
  return text.includes(shown) ? "y" : ".";
}

/** Which rows are missing, and which are for nothing that is there; a note in parentheses is not part of a name. */
export function compareCoverage(rows: Iterable<string>, live: Iterable<string>): string[] {
  const inTable = new Set([...rows].map((row) => row.replace(/ \(.*\)$/, "")));
  const there = new Set(live);
  return [
    ...[...there].filter((one) => !inTable.has(one)).map((one) => `${one} has no row: who may?`),
    ...[...inTable].filter((one) => !there.has(one)).map((one) => `${one} has a row, and is not there`),
  ];
}
