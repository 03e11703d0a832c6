import { Directive, Field, GraphQLISODateTime, ID, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../common/pagination.type.js";

@ObjectType({ description: "An entry of the Shadir: signed metadata under a key, pointing to a blob." })
@Directive('@key(fields: "id")')
export class DirectoryEntry {
  @Field(() => ID, {
    description: "Global id; its natural key is the SHA-512 of the body, a space, and the SHA-256 of the key.",
  })
  id!: string;

  @Field({ description: "The key that clients look it up by, as it came in the request." })
  key!: string;

  @Field({ description: "The first text of the entry: metadata, JSON by convention, as it was signed." })
  metadata!: string;

  @Field({ description: "Whether it carries a signature. Readers verify it with the certificates that they trust." })
  isSigned!: boolean;

  @Field(() => GraphQLISODateTime, { description: "When it was stored." })
  createdAt!: Date;

  sha512!: string | null;
}

export const { ConnectionType: DirectoryEntryConnection } = connectionTypes("DirectoryEntry", () => DirectoryEntry);
export type DirectoryEntryPage = Connection<DirectoryEntry>;
