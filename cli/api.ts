import { readFileSync } from "node:fs";
import path from "node:path";
import { ConfigError } from "../common/config.js";
import { adminTokenFile } from "../common/data-dir.js";

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
    const given = token ?? env.SLAPGRAPH_TOKEN ?? env.SLAPGRAPH_ADMIN_TOKEN;
    this.token = given ?? readAdminToken(path.resolve(env.SLAPGRAPH_DATA_DIR ?? ".slapgraph"));
  }

  async query<Data>(query: string, variables: Record<string, unknown> = {}): Promise<Data> {
    const response = await fetch(this.#url, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${this.token}` },
      body: JSON.stringify({ query, variables }),
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

  /** One mutation, by the name of its field; what it refuses ends the command. */
  async mutate<Payload extends object>(name: string, query: string, input: object): Promise<Payload> {
    const data = await this.query<Record<string, Payload & { userErrors: UserError[] }>>(query, { input });
    const payload = data[name];
    const [refusal] = payload?.userErrors ?? [];
    if (refusal) throw new ConfigError(`${refusal.code}: ${refusal.message}`);
    if (!payload) throw new ConfigError(`${name} answered nothing.`);
    return payload;
  }

  /** All nodes of a connection at the root, page by page. */
  async list<Node>(field: string, selection: string): Promise<Node[]> {
    const nodes: Node[] = [];
    for (let page = 0, after: string | null = null; page < maxPages; page++) {
      const data: Record<
        string,
        { edges: { node: Node }[]; pageInfo: { hasNextPage: boolean; endCursor: string | null } }
      > = await this.query(
        `query ($after: String) { ${field}(first: 100, after: $after) { edges { node { ${selection} } } pageInfo { hasNextPage endCursor } } }`,
        { after },
      );
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

function readAdminToken(dataDir: string): string {
  try {
    return readFileSync(adminTokenFile(dataDir), "utf8").trim();
  } catch {
    throw new ConfigError(
      `No token: give --token or SLAPGRAPH_TOKEN, or run this where ${adminTokenFile(dataDir)} can be read.`,
    );
  }
}
