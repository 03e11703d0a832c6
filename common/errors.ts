/**
 * The one error class and the one table of codes. A code is a stable name: clients match on it, never on the text.
 * `httpStatus` is what the HTTP doors answer, `retryable` whether the same call may succeed later without a change.
 */
export const errorTable = {
  UNAUTHENTICATED: row(401, false, "No valid token came with the call.", "Send `Authorization: Bearer <token>`."),
  FORBIDDEN: row(403, false, "The caller may see this but not do it.", "Ask an OWNER of the project for a role."),
  NOT_FOUND: row(404, false, "It does not exist, or not for this caller.", "Check the name and the token's project."),
  BAD_USER_INPUT: row(400, false, "An argument has a wrong form or value.", "Correct the argument that is named."),
  MALFORMED_XML: row(400, false, "The body is not XML of the SLAP protocol.", "Send what xml_marshaller writes."),
  BAD_CURSOR: row(400, false, "The cursor was not made by this API.", "Pass a cursor unchanged, or none."),
  RESUME_EXPIRED: row(
    410,
    false,
    "Events after this cursor are no longer kept, or belong to another log.",
    "Read the present state by query, then subscribe without a cursor.",
  ),
  SUBSCRIBER_TOO_SLOW: row(
    408,
    true,
    "The subscriber read nothing of its stream for too long.",
    "Subscribe again with the last cursor that was read: nothing is missed.",
  ),
  ALREADY_EXISTS: row(409, false, "Something with this name exists.", "Choose another name, or change that one."),
  REVISION_CONFLICT: row(409, true, "It was changed since it was read.", "Read it again and decide again."),
  STATE_CONFLICT: row(409, false, "Its present state does not allow this.", "Read its state; the message says why."),
  NOT_READY: row(408, true, "The request is accepted and waits to be allocated.", "Ask again later."),
  METHOD_NOT_ALLOWED: row(405, false, "The method is not one for this.", "Send it by POST; queries come by GET too."),
  PAYLOAD_TOO_LARGE: row(413, false, "The body or list is larger than the bound.", "Send less at a time."),
  UNSUPPORTED_ENCODING: row(415, false, "The body is compressed.", "Send it as it is, without Content-Encoding."),
  DEPTH_LIMIT: row(400, false, "The operation is nested too deeply.", "Ask for less at a time (docs/limits.md)."),
  ALIAS_LIMIT: row(400, false, "The operation has too many aliases.", "Ask in several operations."),
  TOKEN_LIMIT: row(400, false, "The document is too long.", "Use variables, or several operations."),
  COST_LIMIT: row(400, false, "The operation asks for too many objects.", "Ask for smaller pages, or join less."),
  BATCH_REFUSED: row(400, false, "The body is a list of operations.", "Send each in a request of its own."),
  EXECUTION_TIMEOUT: row(504, true, "The operation took too long.", "Ask for less; read what a mutation has done."),
  SUBSCRIPTION_LIMIT: row(429, true, "The caller has too many subscriptions.", "End some; one may follow everything."),
  CONNECTION_LIMIT: row(503, true, "The door has too many connections.", "Close some, or try again later."),
  DOCUMENT_NOT_TRUSTED: row(400, false, "The document is not registered.", "Register it (docs/limits.md)."),
  INTROSPECTION_OFF: row(400, false, "The gateway does not tell its schema.", "Read schema/supergraph.graphql."),
  LENGTH_REQUIRED: row(411, false, "The upload does not say its length.", "Send Content-Length."),
  UPLOAD_STALLED: row(408, true, "The body of an upload came too slowly or not at all.", "Send it again, faster."),
  PRECONDITION_FAILED: row(412, false, "It is not as If-Match or If-None-Match wants it.", "Ask without, or use it."),
  DIGEST_MISMATCH: row(400, false, "The bytes do not have the digest that was named.", "Send the right bytes."),
  UNTRUSTED_SIGNATURE: row(
    403,
    false,
    "None of the project's trusted certificates signed the directory entry, and its policy refuses such.",
    "Sign with a key whose certificate the project trusts, or have an OWNER trust it.",
  ),
  QUOTA_EXCEEDED: row(507, false, "The project's blobs would be more than its quota.", "Collect, or raise the quota."),
  RATE_LIMITED: row(429, true, "The project does this more often than it may.", "Wait as long as Retry-After says."),
  STORAGE_FULL: row(507, true, "The blob store has no room left.", "Free space, then try again."),
  UNAVAILABLE: row(503, true, "Something this needs does not answer just now.", "Try again in some seconds."),
  INTERNAL: row(500, false, "A fault of ours; the log has it under the request id.", "Report it with the request id."),
} as const;

function row(httpStatus: number, retryable: boolean, meaning: string, remedy: string) {
  return { httpStatus, retryable, meaning, remedy };
}

export type ErrorCode = keyof typeof errorTable;

/** An error that is an answer: its message is public and says what the caller can do. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly details: Record<string, unknown> | undefined;

  constructor(
    code: ErrorCode,
    publicMessage: string,
    options: { cause?: unknown; details?: Record<string, unknown> } = {},
  ) {
    super(publicMessage, { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.details = options.details;
  }

  get httpStatus(): number {
    return errorTable[this.code].httpStatus;
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable;
  }
}

/** What the node driver and PostgreSQL say when the database is away, as opposed to when a statement is wrong. */
const databaseAwayCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "57P01",
  "57P02",
  "57P03",
  "53300",
  "08000",
  "08001",
  "08003",
  "08006",
]);

const databaseAwayMessage =
  /connection terminated|timeout exceeded when trying to connect|connection ended|not queryable|query read timeout/i;

/**
 * What PostgreSQL says of a value that it cannot hold, which came from outside: a time beyond its calendar, a NUL in a text;
 * where the driver writes the text into the statement, the NUL ends that too early (08P01).
 */
const unstorableCodes = new Set(["22021", "22P05", "22P02", "22008", "22003", "08P01"]);

/** Every error leaves a door as an AppError: a database that is away is UNAVAILABLE, the unknown is INTERNAL and masked. */
export function toAppError(error: unknown): AppError {
  for (let cause: unknown = error, depth = 0; cause instanceof Error && depth < 8; cause = cause.cause, depth++) {
    if (cause instanceof AppError) return cause;
    const code = (cause as { code?: unknown }).code;
    // pg raises these states of its pool as plain errors without a code, so the text is all there is to classify by.
    if ((typeof code === "string" && databaseAwayCodes.has(code)) || databaseAwayMessage.test(cause.message)) {
      return new AppError("UNAVAILABLE", "The database does not answer just now. Try again in some seconds.", {
        cause: error,
      });
    }
    if (typeof code === "string" && unstorableCodes.has(code)) {
      return new AppError("BAD_USER_INPUT", "A value has characters or a size that cannot be stored.", {
        cause: error,
      });
    }
    // GraphQL wraps what a resolver threw; what it threw is the one that matters.
    const original = (cause as { originalError?: unknown }).originalError;
    if (original instanceof Error && original !== cause) return toAppError(original);
  }
  return new AppError("INTERNAL", "Something went wrong here. The log has it under this request's id.", {
    cause: error,
  });
}
