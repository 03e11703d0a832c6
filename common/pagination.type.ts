import { ArgsType, type ClassType, Directive, Field, Int, ObjectType } from "type-graphql";

/** Relay's arguments. Exactly one of `first` and `last` is required, from 1 to 100. */
@ArgsType()
export class PageArgs {
  @Field(() => Int, { nullable: true, description: "How many from the start, 1 to 100. Give this or `last`." })
  first?: number | null;

  @Field(() => String, { nullable: true, description: "Only what comes after this cursor, exclusive." })
  after?: string | null;

  @Field(() => Int, { nullable: true, description: "How many from the end, 1 to 100. Give this or `first`." })
  last?: number | null;

  @Field(() => String, { nullable: true, description: "Only what comes before this cursor, exclusive." })
  before?: string | null;
}

/** How every subscription resumes. */
@ArgsType()
export class AfterArgs {
  @Field(() => String, {
    nullable: true,
    description: "The last cursor seen, exclusive: what came after it is replayed. Default: from now on.",
  })
  after?: string | null;
}

@ObjectType({ description: "Where a page stands in its connection (Relay cursor connections)." })
@Directive("@shareable")
export class PageInfo {
  @Field({ description: "There is more after this page." })
  hasNextPage!: boolean;

  @Field({ description: "There is more before this page." })
  hasPreviousPage!: boolean;

  @Field(() => String, { nullable: true, description: "The cursor of the first edge, null on an empty page." })
  startCursor!: string | null;

  @Field(() => String, { nullable: true, description: "The cursor of the last edge, null on an empty page." })
  endCursor!: string | null;
}

export interface Edge<Node> {
  cursor: string;
  node: Node;
}

export interface Connection<Node> {
  edges: Edge<Node>[];
  pageInfo: PageInfo;
}

/** The `XConnection` and `XEdge` types of a node type. */
export function connectionTypes<Node extends object>(name: string, node: () => ClassType<Node>) {
  @ObjectType(`${name}Edge`, { description: `One ${name} of a page, with its cursor.` })
  class EdgeType {
    @Field({ description: "Pass it as `after` or `before` to go on from here." })
    cursor!: string;

    @Field(() => node(), { description: `The ${name}.` })
    node!: Node;
  }

  @ObjectType(`${name}Connection`, { description: `A page of ${name}s, in a stable order.` })
  class ConnectionType {
    @Field(() => [EdgeType], { description: "The page's items, at most 100." })
    edges!: EdgeType[];

    @Field(() => PageInfo, { description: "Where the page stands." })
    pageInfo!: PageInfo;
  }
  return { EdgeType, ConnectionType };
}
