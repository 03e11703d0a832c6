import { Field, Int, ObjectType } from "type-graphql";

@ObjectType({ description: "One of the builds of a release that computers of one platform run." })
export class CacheDriftVariant {
  @Field({ description: "The SHA-512 of the build's archive, 128 lower-case hexadecimal digits." })
  sha512!: string;

  @Field(() => Int, { description: "How many computers run it, of those that the caller sees." })
  computerCount!: number;

  releaseUrl!: string;
}

@ObjectType({
  description: "Computers of one operating system and architecture that run different bytes of one release.",
})
export class CacheDrift {
  @Field({ description: "The architecture as `gcc -dumpmachine` says it, e.g. `x86_64-linux-gnu`." })
  multiarch!: string;

  @Field(() => [String], {
    description: "Distribution, version and codename, as slapgrid compares them: of a Debian only the major version.",
  })
  os!: string[];

  @Field(() => [CacheDriftVariant], { description: "Two builds or more, the most common first; at most 1000." })
  variants!: CacheDriftVariant[];
}
