import { Arg, Args, Ctx, FieldResolver, Query, Resolver, Root } from "type-graphql";
import { toGlobalId } from "../../common/global-id.js";
import { isMember } from "../../common/identity.js";
import { toConnection, toPage } from "../../common/pagination.js";
import { PageArgs } from "../../common/pagination.type.js";
import { toArtifact } from "../artifact/artifact.resolver.js";
import { Artifact } from "../artifact/artifact.type.js";
import type { ShacacheContext } from "../context.js";
import { toTrustedCertificate } from "../trusted-certificate/trusted-certificate.resolver.js";
import { TrustedCertificate } from "../trusted-certificate/trusted-certificate.type.js";
import type { DirectoryEntryRow, DirectoryEntryService } from "./directory-entry.service.js";
import {
  DirectoryEntry,
  DirectoryEntryConnection,
  type DirectoryEntryPage,
  SignatureState,
} from "./directory-entry.type.js";
import { parsePair } from "./entry-body.js";
import { SoftwareRelease, toSoftwareRelease } from "./software-release.stub.js";

export function toDirectoryEntry(row: DirectoryEntryRow): DirectoryEntry {
  const [metadata] = parsePair(row.body);
  return {
    id: toGlobalId("DirectoryEntry", row.id),
    key: row.key,
    metadata,
    isSigned: row.isSigned,
    createdAt: row.createdAt,
    createdBy: row.createdBy,
    project: row.project,
    isPinned: row.isPinned,
    sha512: row.sha512 ?? null,
    releaseUrl: row.releaseUrl ?? null,
    row,
  };
}

@Resolver(() => DirectoryEntry)
export class DirectoryEntryResolver {
  readonly #entries: DirectoryEntryService;

  constructor(entries: DirectoryEntryService) {
    this.#entries = entries;
  }

  @Query(() => DirectoryEntryConnection, {
    description: "The entries under a key, in the order of their ids; whoever has a token reads them, as at the door.",
  })
  async directoryEntries(
    @Args(() => PageArgs) args: PageArgs,
    @Arg("key", () => String, { description: "The key, as clients send it." }) key: string,
  ): Promise<DirectoryEntryPage> {
    const page = toPage(args);
    return toConnection(await this.#entries.entries(page, key), page, (row) => row.id, toDirectoryEntry);
  }

  @FieldResolver(() => SignatureState, { description: "What its signature is worth." })
  async signature(@Root() { row }: DirectoryEntry): Promise<SignatureState> {
    if (!row.isSigned) return "UNSIGNED";
    const { isChecked, signer } = await this.#entries.signerOf(row);
    if (!isChecked) return "UNCHECKED";
    return signer === null ? "UNTRUSTED" : "TRUSTED";
  }

  @FieldResolver(() => TrustedCertificate, {
    nullable: true,
    description:
      "Which of the certificates that its project trusts signed it; null if none did, and for who is not of that project.",
  })
  async signedBy(
    @Root() { row }: DirectoryEntry,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<TrustedCertificate | null> {
    if (!row.isSigned || !isMember(caller, row.project)) return null;
    const { signer } = await this.#entries.signerOf(row);
    return signer && toTrustedCertificate(signer);
  }

  @FieldResolver(() => SoftwareRelease, {
    nullable: true,
    description: "The release that its metadata says the blob is a build of (`software_url`); null if it says none.",
  })
  softwareRelease(@Root() { releaseUrl }: DirectoryEntry): SoftwareRelease | null {
    return releaseUrl === null ? null : toSoftwareRelease(releaseUrl);
  }

  @FieldResolver(() => Artifact, {
    nullable: true,
    description: "The blob that it points to; null if it is not stored here.",
  })
  async artifact(@Root() entry: DirectoryEntry, @Ctx() { loaders }: ShacacheContext): Promise<Artifact | null> {
    if (entry.sha512 === null) return null;
    const row = await loaders.artifacts.load(entry.sha512);
    return row && toArtifact(row);
  }
}
