import { Directive, Field, ObjectType } from "type-graphql";
import { AppError } from "./errors.js";

@ObjectType({
  description: "A business refusal of a mutation: nothing was changed. Codes are listed in schema/errors.md.",
})
@Directive("@shareable")
export class UserError {
  @Field({ description: "A stable code to match on." })
  code!: string;

  @Field({ description: "What is refused and what the caller can do about it." })
  message!: string;

  @Field(() => [String], { nullable: true, description: "The path of the input field that it is about, if one." })
  path!: string[] | null;
}

/** Refusals that are an answer to a mutation; the others (identity, limits, faults) stay GraphQL errors. */
const refusals = new Set([
  "NOT_FOUND",
  "BAD_USER_INPUT",
  "ALREADY_EXISTS",
  "REVISION_CONFLICT",
  "STATE_CONFLICT",
  "FORBIDDEN",
]);

/** Runs a command and turns a refusal into `userErrors`, with the payload's own fields null. */
export async function toPayload<Fields extends object>(
  work: () => Promise<Fields>,
): Promise<{ [Key in keyof Fields]: Fields[Key] | null } & { userErrors: UserError[] }> {
  try {
    return { ...(await work()), userErrors: [] };
  } catch (error) {
    if (!(error instanceof AppError) || !refusals.has(error.code)) throw error;
    const path = error.details?.path;
    const userError = { code: error.code, message: error.message, path: Array.isArray(path) ? path.map(String) : null };
    // Absent fields read as null; only the errors need saying.
    return { userErrors: [userError] } as unknown as { [Key in keyof Fields]: null } & { userErrors: UserError[] };
  }
}
