import type http from "node:http";
import { AppError } from "../common/errors.js";
import type { Caller, TokenAuthority } from "../common/identity.js";

export interface ShacacheAccess {
  tokens: TokenAuthority;
  /** Anonymous reads, as production caches have them; by default where the door listens on loopback. */
  openReads: boolean;
  openWrites: boolean;
}

/** Who calls; null where nobody has to say who he is. Nodes, and persons who may use the project, write. */
export async function authorise(
  request: http.IncomingMessage,
  token: string | null,
  isRead: boolean,
  { tokens, openReads, openWrites }: ShacacheAccess,
): Promise<Caller | null> {
  const given = token !== null || request.headers.authorization !== undefined;
  if (!given && (isRead ? openReads : openWrites)) return null;
  const caller =
    token === null ? await tokens.verifyAuthorization(request.headers.authorization) : await tokens.verify(token);
  const mayWrite =
    caller.kind === "administrator" || caller.kind === "node" || (caller.kind === "person" && caller.role !== "VIEWER");
  if (!isRead && !mayWrite)
    throw new AppError("FORBIDDEN", "Uploading takes a node's token, or the role USER or OWNER.");
  return caller;
}
