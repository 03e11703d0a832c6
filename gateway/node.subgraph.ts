import { buildSubgraphSchema } from "@apollo/subgraph";
import DataLoader from "dataloader";
import { parse } from "graphql";
import { AppError } from "../common/errors.js";
import { parseGlobalId } from "../common/global-id.js";
import type { Logger } from "../common/log.js";
import type { SubgraphContext } from "../common/subgraph.js";
import { type GatewayContext, localExecutor, type SubgraphExecutor } from "./transport.js";

export const nodeName = "node";

/** Which subgraph says whether an entity exists for a caller. */
export const owners = {
  Project: "identity",
  Person: "identity",
  Token: "identity",
  Certificate: "identity",
  RegistrationToken: "identity",
  AuditRecord: "identity",
  SoftwareProduct: "catalog",
  SoftwareRelease: "catalog",
  Computer: "computer",
  ComputerPartition: "computer",
  SoftwareInstallation: "computer",
  SoftwareInstance: "computer",
  Bang: "monitoring",
  Artifact: "shacache",
  DirectoryEntry: "shacache",
  TrustedCertificate: "shacache",
} as const;

const maxIds = 100;

/** Asks a subgraph which of these entities exist for the caller: true in the place of each that does. */
export type FindEntities = (
  subgraph: string,
  representations: { __typename: string; id: string }[],
  context: GatewayContext,
) => Promise<boolean[]>;

interface NodeReference {
  __typename: string;
  id: string;
}

interface NodeLoaders {
  nodes: DataLoader<string, NodeReference | null>;
}

export const nodeSdl = `extend schema @link(url: "https://specs.apollo.dev/federation/v2.7", import: ["@key"])

"""Whatever has a global id."""
interface Node {
  """Global id: base64url of \`Type:naturalKey\`."""
  id: ID!
}
${Object.keys(owners)
  .map((type) => `\ntype ${type} implements Node @key(fields: "id") {\n  id: ID!\n}\n`)
  .join("")}
type Query {
  """One entity by its global id; null if there is none for this caller."""
  node(
    """The global id."""
    id: ID!
  ): Node

  """Entities by their global ids, in the order asked, null in the place of each that there is not for this caller."""
  nodes(
    """The global ids, at most ${maxIds}."""
    ids: [ID!]!
  ): [Node]!
}
`;

/** The gateway's own subgraph: it knows no entity, only who owns which. */
export function nodeExecutor(find: FindEntities, log: Logger): SubgraphExecutor {
  const schema = buildSubgraphSchema([{ typeDefs: parse(nodeSdl), resolvers }]);
  return (request) => {
    const { caller, requestId } = request.context;
    const createContext = () => ({
      caller,
      requestId,
      loaders: { nodes: new DataLoader((ids: readonly string[]) => loadNodes(ids, find, request.context)) },
    });
    return localExecutor({ name: nodeName, schema, sdl: nodeSdl, createContext }, log)(request);
  };
}

const resolvers = {
  Query: {
    node: (_root: unknown, { id }: { id: string }, { loaders }: SubgraphContext<NodeLoaders>) => loaders.nodes.load(id),
    nodes: (_root: unknown, { ids }: { ids: string[] }, { loaders }: SubgraphContext<NodeLoaders>) => {
      if (ids.length > maxIds)
        throw new AppError("BAD_USER_INPUT", `\`ids\` takes up to ${maxIds} ids, not ${ids.length}.`);
      return ids.map((id) => loaders.nodes.load(id));
    },
  },
  Node: { __resolveType: (node: NodeReference) => node.__typename },
  ...Object.fromEntries(
    Object.keys(owners).map((type) => [type, { __resolveReference: (reference: NodeReference) => reference }]),
  ),
};

async function loadNodes(ids: readonly string[], find: FindEntities, context: GatewayContext) {
  const found = new Map<string, NodeReference | Error>();
  const byOwner = Map.groupBy(
    ids.flatMap((id) => {
      const type = parseGlobalId(id)?.type;
      return type !== undefined && Object.hasOwn(owners, type) ? [{ __typename: type, id }] : [];
    }),
    ({ __typename }) => owners[__typename as keyof typeof owners],
  );
  await Promise.all(
    [...byOwner].map(async ([owner, references]) => {
      // An owner that is away costs its own entities, not the others.
      const exist = await find(owner, references, context).catch((error: Error) => error);
      for (const [index, reference] of references.entries()) {
        if (exist instanceof Error) found.set(reference.id, exist);
        else if (exist[index]) found.set(reference.id, reference);
      }
    }),
  );
  return ids.map((id) => found.get(id) ?? null);
}
