import { Directive, Field, ID, ObjectType } from "type-graphql";
import { toGlobalId } from "../../common/global-id.js";

@ObjectType({
  description: "A software release, owned by the catalog. It may be referenced before anyone published it.",
})
@Directive('@key(fields: "id")')
export class SoftwareRelease {
  @Field(() => ID, { description: "Global id; its natural key is the url." })
  id!: string;

  @Field({ description: "The release's url, which names it everywhere in SlapOS." })
  @Directive("@shareable")
  url!: string;
}

export function toSoftwareRelease(url: string): SoftwareRelease {
  return { id: toGlobalId("SoftwareRelease", url), url };
}
