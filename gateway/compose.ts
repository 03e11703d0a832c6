import { composeServices } from "@theguild/federation-composition";
import { parse } from "graphql";

export interface SubgraphSdl {
  name: string;
  sdl: string;
}

/** The supergraph of these subgraphs. Throws with every code and message of the composition where they do not fit together. */
export function composeSupergraph(subgraphs: readonly SubgraphSdl[]): string {
  const result = composeServices(
    subgraphs.map(({ name, sdl }) => ({ name, url: `http://${name}.subgraph/graphql`, typeDefs: parse(sdl) })),
  );
  if (result.supergraphSdl) return result.supergraphSdl;
  const problems = (result.errors ?? []).map(
    (error) => `${String(error.extensions?.code ?? "INVALID")}: ${error.message}`,
  );
  throw new Error(`The subgraphs do not compose:\n${problems.join("\n")}`);
}
