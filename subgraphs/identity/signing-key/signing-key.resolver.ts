import { Arg, Ctx, Mutation, Query, Resolver } from "type-graphql";
import type { SigningKey as Key } from "../../../common/signing-keys.js";
import { toPayload } from "../../../common/user-error.type.js";
import type { IdentityContext } from "../context.js";
import type { SigningKeyService } from "./signing-key.service.js";
import { RotateSigningKeyInput, RotateSigningKeyPayload, SigningKey } from "./signing-key.type.js";

function toSigningKey({ keyId, createdAt, endsAt }: Key, isCurrent: boolean): SigningKey {
  return { keyId, isCurrent, createdAt, endsAt };
}

@Resolver(() => SigningKey)
export class SigningKeyResolver {
  readonly #service: SigningKeyService;

  constructor(service: SigningKeyService) {
    this.#service = service;
  }

  @Query(() => [SigningKey], {
    nullable: true,
    description: "The keys whose tokens are good, newest first, at most 100. Empty for all but the administrator.",
  })
  signingKeys(@Ctx() { caller }: IdentityContext): SigningKey[] {
    return this.#service.signingKeys(caller).map((key, index) => toSigningKey(key, index === 0));
  }

  @Mutation(() => RotateSigningKeyPayload, {
    description:
      "Signs new tokens with a new key, in every process within a second. Administrator only. User errors: BAD_USER_INPUT, FORBIDDEN, STATE_CONFLICT.",
  })
  async rotateSigningKey(
    @Arg("input", () => RotateSigningKeyInput, { description: "How long earlier keys are kept." })
    input: RotateSigningKeyInput,
    @Ctx() { caller }: IdentityContext,
  ): Promise<RotateSigningKeyPayload> {
    return toPayload(async () => ({
      signingKey: toSigningKey(await this.#service.rotateSigningKey(caller, input.keepEarlierDays), true),
    }));
  }
}
