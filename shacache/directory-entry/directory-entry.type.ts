import { Directive, Field, GraphQLISODateTime, ID, ObjectType } from "type-graphql";
import { graphqlEnum } from "../../common/enum.type.js";
import { type Connection, connectionTypes } from "../../common/pagination.type.js";
import type { DirectoryEntryRow } from "./directory-entry.service.js";

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

  @Field({ description: "Whether it carries a signature, good or not. `signature` says what it is worth." })
  isSigned!: boolean;

  @Field(() => GraphQLISODateTime, { description: "When it was stored." })
  createdAt!: Date;

  @Field({ description: "The subject of who put it; `anonymous` where writes are open." })
  createdBy!: string;

  @Field({ description: "The project whose trusted certificates its signature is checked with." })
  project!: string;

  @Field({ description: "Whether an owner of its project pinned it: it and its blob are never collected then." })
  isPinned!: boolean;

  sha512!: string | null;
  releaseUrl!: string | null;
  row!: DirectoryEntryRow;
}

export type SignatureState = "UNCHECKED" | "TRUSTED" | "UNTRUSTED" | "UNSIGNED";

export const SignatureState = graphqlEnum<SignatureState>(
  "SignatureState",
  "What an entry's signature is worth, by what its project trusts now.",
  {
    UNCHECKED: "It is signed, and its project trusts no certificate to check it with.",
    TRUSTED: "A certificate that its project trusts signed it.",
    UNTRUSTED: "None of the certificates that its project trusts signed it.",
    UNSIGNED: "It carries no signature.",
  },
);

export const { ConnectionType: DirectoryEntryConnection } = connectionTypes("DirectoryEntry", () => DirectoryEntry);
export type DirectoryEntryPage = Connection<DirectoryEntry>;
