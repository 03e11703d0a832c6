import type http from "node:http";
import { callerOf, type Verifiers } from "../common/credentials.js";
import { AppError } from "../common/errors.js";
import type { Caller } from "../common/identity.js";

export interface ShacacheAccess extends Verifiers {
  /** Anonymous reads, as production caches have them; by default where the door listens on loopback. */
  openReads: boolean;
  openWrites: boolean;
  /** How long an upload may send nothing. */
  uploadStallMs: number;
}

/** Who calls; null where nobody has to say who he is. */
export async function identify(
  request: http.IncomingMessage,
  token: string | null,
  isRead: boolean,
  access: ShacacheAccess,
): Promise<Caller | null> {
  const known = await callerOf(request, token, access);
  if (known === null) {
    if (isRead ? access.openReads : access.openWrites) return null;
    throw new AppError(
      "UNAUTHENTICATED",
      "No credential came with the call: a token in the path (/k/<token>/), Bearer, Basic, or a client certificate.",
    );
  }
  return known.caller;
}

/** Nodes, and persons who may use the project, write; and anybody where writes are open. */
export function requireWriter(caller: Caller | null): void {
  if (caller === null || caller.kind === "administrator" || caller.kind === "node") return;
  if (caller.kind === "person" && caller.role !== "VIEWER") return;
  throw new AppError("FORBIDDEN", "Uploading takes a node's credential, or the role USER or OWNER.");
}

const checkIntervalMs = 500;

/** An upload or a download may take hours: it is cut within a second of its caller's credential being revoked. */
export async function whileGood(
  caller: Caller | null,
  { tokens }: ShacacheAccess,
  response: http.ServerResponse,
  work: () => Promise<void>,
): Promise<void> {
  if (caller === null) return work();
  const check = setInterval(() => {
    try {
      tokens.assertStillValid(caller);
    } catch {
      // Too late for a status; the bytes that are missing say that it is not whole.
      response.req.destroy();
    }
  }, checkIntervalMs);
  try {
    await work();
  } finally {
    clearInterval(check);
  }
}
