import { readFileSync } from "node:fs";
import path from "node:path";
import { ConfigError } from "../common/config.js";
import { adminTokenFile } from "../common/data-dir.js";
import { type CommandDocument, commandDocuments } from "../schema/command.documents.js";

export interface ApiOptions {
  url?: string;
  token?: string;
}

interface UserError {
  code: string;
  message: string;
}

const timeoutMs = 30_000;
const maxPages = 1_000;

/** The gateway, as a command of a person uses it. What it refuses is said in its own words. */
export class Api {
  readonly #url: string;
  readonly token: string;

  /** The address and token that were given, else those of a Slapgraph that was started in this folder. */
  constructor({ url, token }: ApiOptions, env: NodeJS.ProcessEnv) {
    this.#url = url ?? env.SLAPGRAPH_URL ?? `http://127.0.0.1:${env.SLAPGRAPH_GATEWAY_PORT ?? 4000}/graphql`;
    const found = findToken(token, env);
    if (found === null) {
      throw new ConfigError(
        `No token: give --token or SLAPGRAPH_TOKEN, or run this where ${adminTokenFile(dataDirOf(env))} can be read.`,
      );
    }
    this.token = found;
  }

  async query<Data>(name: CommandDocument, variables: Record<string, unknown> = {}): Promise<Data> {
    const response = await fetch(this.#url, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${this.token}` },
      body: JSON.stringify({ query: commandDocuments[name], variables }),
      signal: AbortSignal.timeout(timeoutMs),
    }).catch((error: Error) => {
      throw new ConfigError(`${this.#url} does not answer (${String(error.cause ?? error.message)}). Is it running?`);
    });
    const text = await response.text();
    const result = parse(text) as {
      data?: Data;
      errors?: { message: string; extensions?: { code?: string } }[];
    } | null;
    const [error] = result?.errors ?? [];
    if (error) throw new ConfigError(`${error.extensions?.code ?? "ERROR"}: ${error.message}`);
    if (!result?.data) throw new ConfigError(`${this.#url} answered ${response.status}: ${text.slice(0, 200)}`);
    return result.data;
  }

  /** One mutation; what it refuses ends the command. */
  async mutate<Payload extends object>(name: CommandDocument, input: object): Promise<Payload> {
    const data = await this.query<Record<string, Payload & { userErrors: UserError[] }>>(name, { input });
    const payload = data[name];
    const [refusal] = payload?.userErrors ?? [];
    if (refusal) throw new ConfigError(`${refusal.code}: ${refusal.message}`);
    if (!payload) throw new ConfigError(`${name} answered nothing.`);
    return payload;
  }

  /** All nodes of a connection at the root, page by page. */
  async list<Node>(field: CommandDocument): Promise<Node[]> {
    const nodes: Node[] = [];
    for (let page = 0, after: string | null = null; page < maxPages; page++) {
      const data: Record<
        string,
        { edges: { node: Node }[]; pageInfo: { hasNextPage: boolean; endCursor: string | null } }
      > = await this.query(field, { after });
      const connection = data[field];
      nodes.push(...(connection?.edges ?? []).map((edge) => edge.node));
      if (!connection?.pageInfo.hasNextPage) break;
      after = connection.pageInfo.endCursor;
    }
    return nodes;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const dataDirOf = (env: NodeJS.ProcessEnv) => path.resolve(env.SLAPGRAPH_DATA_DIR ?? ".slapgraph");

/** The token that was given, else that of the administrator of a data dir which the caller may read; null for neither. */
export function findToken(given: string | undefined, env: NodeJS.ProcessEnv): string | null {
  const token = given ?? env.SLAPGRAPH_TOKEN ?? env.SLAPGRAPH_ADMIN_TOKEN;
  if (token !== undefined) return token;
  try {
    return readFileSync(adminTokenFile(dataDirOf(env)), "utf8").trim();
  } catch {
    return null;
  }
}
