import { Field, GraphQLISODateTime, Int, ObjectType } from "type-graphql";
import { PageInfo } from "../../common/pagination.type.js";
import { Artifact } from "../artifact/artifact.type.js";
import { Computer } from "./computer.stub.js";

@ObjectType({ description: "When and how often a computer took a blob from the Shacache, or brought it." })
class Taking {
  @Field({ description: "Pass it as `after` or `before` to go on from here." })
  cursor!: string;

  @Field(() => GraphQLISODateTime, { description: "The first time." })
  firstAt!: Date;

  @Field(() => GraphQLISODateTime, { description: "The last time. Known some seconds after it was." })
  lastAt!: Date;

  @Field(() => Int, { description: "How often the computer read it to its end." })
  downloads!: number;

  @Field(() => Int, { description: "How often the computer uploaded it, or an entry that names it." })
  uploads!: number;
}

@ObjectType({ description: "One blob that a computer took or brought." })
export class ComputerArtifactEdge extends Taking {
  @Field({ description: "The blob's SHA-512, 128 lower-case hexadecimal digits." })
  sha512!: string;

  @Field(() => Artifact, { nullable: true, description: "The blob; null if it is no longer stored here." })
  node!: Artifact | null;
}

@ObjectType({ description: "A page of what a computer took or brought, in a stable order." })
export class ComputerArtifactConnection {
  @Field(() => [ComputerArtifactEdge], { description: "The page's items, at most 100." })
  edges!: ComputerArtifactEdge[];

  @Field(() => PageInfo, { description: "Where the page stands." })
  pageInfo!: PageInfo;
}

@ObjectType({ description: "One computer that took or brought a blob." })
export class ArtifactComputerEdge extends Taking {
  @Field(() => Computer, { nullable: true, description: "The computer; null while its owner cannot be asked." })
  node!: Computer | null;
}

@ObjectType({ description: "A page of computers that took or brought a blob, in a stable order." })
export class ArtifactComputerConnection {
  @Field(() => [ArtifactComputerEdge], { description: "The page's items, at most 100." })
  edges!: ArtifactComputerEdge[];

  @Field(() => PageInfo, { description: "Where the page stands." })
  pageInfo!: PageInfo;
}
