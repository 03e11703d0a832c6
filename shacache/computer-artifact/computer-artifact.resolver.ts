import { Args, Ctx, FieldResolver, Resolver, Root } from "type-graphql";
import { naturalKeyOf, toGlobalId } from "../../common/global-id.js";
import { type Page, toConnection, toPage } from "../../common/pagination.js";
import { PageArgs } from "../../common/pagination.type.js";
import { toArtifact } from "../artifact/artifact.resolver.js";
import { Artifact } from "../artifact/artifact.type.js";
import type { ShacacheContext } from "../context.js";
import { Computer } from "./computer.stub.js";
import type { ComputerArtifactRow } from "./computer-artifact.service.js";
import { ArtifactComputerConnection, ComputerArtifactConnection } from "./computer-artifact.type.js";

@Resolver(() => Computer)
export class ComputerArtifactResolver {
  @FieldResolver(() => ComputerArtifactConnection, {
    nullable: true,
    description:
      "Which blobs its node took from the Shacache or brought, known by the node's credential; oldest first.",
  })
  async artifacts(
    @Root() computer: Computer,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: ShacacheContext,
  ): Promise<ComputerArtifactConnection> {
    const page = toPage(args);
    const rows = await loaders.artifactsOfComputers(page).load(naturalKeyOf("Computer", computer.id));
    const { edges, pageInfo } = toConnection(
      rows,
      page,
      (row) => row.moment,
      (row) => row,
    );
    return {
      pageInfo,
      edges: await Promise.all(
        edges.map(async ({ cursor, node }) => {
          const artifact = await loaders.artifacts.load(node.sha512);
          return { cursor, ...takingOf(node), sha512: node.sha512, node: artifact && toArtifact(artifact) };
        }),
      ),
    };
  }
}

@Resolver(() => Artifact)
export class ArtifactComputerResolver {
  @FieldResolver(() => ArtifactComputerConnection, {
    description: "Which computers took or brought it, of those that the caller sees; oldest first.",
  })
  async computers(
    @Root() artifact: Artifact,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: ShacacheContext,
  ): Promise<ArtifactComputerConnection> {
    const page = toPage(args);
    const rows = await loaders.computersOfArtifacts(page).load(artifact.sha512);
    return toComputerConnection(rows, page, (row) => row.moment);
  }
}

export function toComputerConnection(
  rows: ComputerArtifactRow[],
  page: Page,
  keyOf: (row: ComputerArtifactRow) => string,
): ArtifactComputerConnection {
  const { edges, pageInfo } = toConnection(rows, page, keyOf, (row) => row);
  const toComputer = (reference: string) => ({ id: toGlobalId("Computer", reference) });
  return {
    pageInfo,
    edges: edges.map(({ cursor, node }) => ({ cursor, ...takingOf(node), node: toComputer(node.computer) })),
  };
}

function takingOf({ firstAt, lastAt, downloads, uploads }: ComputerArtifactRow) {
  return { firstAt, lastAt, downloads, uploads };
}
