import { readFile } from "node:fs/promises";
import type { SubgraphSdl } from "../gateway/compose.js";

/** schema/ of the source tree, as seen from dist/schema. */
export const schemaFolder = new URL("../../schema/", import.meta.url);

/** The committed SDL of a subgraph, for a gateway whose subgraphs run apart. */
export function readSubgraphSdl(name: string): Promise<string> {
  return readFile(new URL(`${name}.graphql`, schemaFolder), "utf8");
}

/** The committed supergraph, which `npm run check` holds to its subgraphs; null unless it is of exactly these. */
export async function readSupergraph(subgraphs: readonly SubgraphSdl[]): Promise<string | null> {
  const supergraph = await readFile(new URL("supergraph.graphql", schemaFolder), "utf8").catch(() => null);
  if (supergraph?.match(/@join__graph\(name: "/g)?.length !== subgraphs.length) return null;
  for (const { name, sdl } of subgraphs) if (sdl !== (await readSubgraphSdl(name).catch(() => null))) return null;
  return supergraph;
}
