import { Arg, Args, Ctx, FieldResolver, Mutation, Query, Resolver, Root } from "type-graphql";
import { naturalKeyOf } from "../../common/global-id.js";
import { projectOf } from "../../common/identity.js";
import { toConnection, toPage } from "../../common/pagination.js";
import { PageArgs } from "../../common/pagination.type.js";
import { toPayload } from "../../common/user-error.type.js";
import { toArtifact } from "../artifact/artifact.resolver.js";
import type { ShacacheContext } from "../context.js";
import { toDirectoryEntry } from "../directory-entry/directory-entry.resolver.js";
import type { DirectoryEntryService } from "../directory-entry/directory-entry.service.js";
import type { RetentionService } from "./retention.service.js";
import {
  CollectArtifactsInput,
  CollectArtifactsPayload,
  CollectableArtifactConnection,
  type CollectableArtifactPage,
  PinArtifactInput,
  PinArtifactPayload,
  PinDirectoryEntryInput,
  PinDirectoryEntryPayload,
  RetentionPreview,
} from "./retention.type.js";

const pinErrors = "Owners of its project only. Idempotent. User errors: NOT_FOUND, FORBIDDEN, BAD_USER_INPUT.";

@Resolver(() => RetentionPreview)
export class RetentionResolver {
  readonly #retention: RetentionService;
  readonly #entries: DirectoryEntryService;

  constructor(retention: RetentionService, entries: DirectoryEntryService) {
    this.#retention = retention;
    this.#entries = entries;
  }

  @Query(() => RetentionPreview, {
    nullable: true,
    description: "What a collection would remove of a project now, for its members; null for others.",
  })
  async retentionPreview(
    @Arg("project", () => String, {
      nullable: true,
      description: "Default: the caller's, the administrator's is `main`.",
    })
    project: string | null,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<RetentionPreview | null> {
    return this.#retention.preview(caller, project ?? projectOf(caller));
  }

  @FieldResolver(() => CollectableArtifactConnection, {
    description: "The blobs that would go, in the order of their digests.",
  })
  async artifacts(
    @Root() { project }: RetentionPreview,
    @Args(() => PageArgs) args: PageArgs,
    @Ctx() { loaders }: ShacacheContext,
  ): Promise<CollectableArtifactPage> {
    const page = toPage(args);
    const rows = await this.#retention.collectableArtifacts(project, page);
    const found = await Promise.all(
      rows.map(async ({ sha512, rule }) => ({ sha512, rule, artifact: await loaders.artifacts.load(sha512) })),
    );
    // What was collected between the two looks is no longer there to be shown.
    const present = found.flatMap(({ artifact, ...row }) => (artifact ? [{ ...row, artifact }] : []));
    const toNode = ({ rule, artifact }: (typeof present)[number]) => ({ rule, artifact: toArtifact(artifact) });
    return toConnection(present, page, (row) => row.sha512, toNode);
  }

  @Mutation(() => CollectArtifactsPayload, {
    description:
      "Removes what the project's cache policy says now, which is done each day by itself. Never what is pinned, or what a release is built of that is published or to be installed somewhere. Owners only. User errors: NOT_FOUND, FORBIDDEN.",
  })
  async collectArtifacts(
    @Arg("input", () => CollectArtifactsInput, { description: "What to collect." }) input: CollectArtifactsInput,
    @Ctx() { caller }: ShacacheContext,
  ): Promise<CollectArtifactsPayload> {
    return toPayload(() => this.#retention.collectProject(caller, input.project));
  }

  @Mutation(() => PinArtifactPayload, { description: `Keeps a blob whatever the policy says. ${pinErrors}` })
  pinArtifact(
    @Arg("input", () => PinArtifactInput, { description: "Which blob." }) input: PinArtifactInput,
    @Ctx() context: ShacacheContext,
  ): Promise<PinArtifactPayload> {
    return this.#pinArtifact(context, input, true);
  }

  @Mutation(() => PinArtifactPayload, { description: `Leaves a blob to the policy again. ${pinErrors}` })
  unpinArtifact(
    @Arg("input", () => PinArtifactInput, { description: "Which blob." }) input: PinArtifactInput,
    @Ctx() context: ShacacheContext,
  ): Promise<PinArtifactPayload> {
    return this.#pinArtifact(context, input, false);
  }

  @Mutation(() => PinDirectoryEntryPayload, {
    description: `Keeps an entry and its blob whatever the policy says. ${pinErrors}`,
  })
  pinDirectoryEntry(
    @Arg("input", () => PinDirectoryEntryInput, { description: "Which entry." }) input: PinDirectoryEntryInput,
    @Ctx() context: ShacacheContext,
  ): Promise<PinDirectoryEntryPayload> {
    return this.#pinEntry(context, input, true);
  }

  @Mutation(() => PinDirectoryEntryPayload, {
    description: `Leaves an entry and its blob to the policy again. ${pinErrors}`,
  })
  unpinDirectoryEntry(
    @Arg("input", () => PinDirectoryEntryInput, { description: "Which entry." }) input: PinDirectoryEntryInput,
    @Ctx() context: ShacacheContext,
  ): Promise<PinDirectoryEntryPayload> {
    return this.#pinEntry(context, input, false);
  }

  #pinArtifact({ caller }: ShacacheContext, { sha512 }: PinArtifactInput, isPinned: boolean) {
    return toPayload(async () => ({
      artifact: toArtifact(await this.#retention.pinArtifact(caller, sha512, isPinned)),
    }));
  }

  #pinEntry({ caller }: ShacacheContext, { id }: PinDirectoryEntryInput, isPinned: boolean) {
    return toPayload(async () => {
      const row = await this.#entries.pin(caller, naturalKeyOf("DirectoryEntry", id), isPinned);
      return { directoryEntry: toDirectoryEntry(row) };
    });
  }
}
