import type http from "node:http";
import { TLSSocket } from "node:tls";
import type { CertificateAuthority } from "./certificates.js";
import { type Caller, type TokenAuthority, tokenOfAuthorization } from "./identity.js";

/** What proves who calls at the doors of nodes. */
export interface Verifiers {
  tokens: TokenAuthority;
  certificates: CertificateAuthority;
}

/**
 * By the token in the path, else by the client certificate of the connection, else by an Authorization header; `token` is
 * null for a certificate. Null where nothing of these came. UNAUTHENTICATED where what came is not good.
 */
export async function callerOf(
  request: http.IncomingMessage,
  inPath: string | null,
  { tokens, certificates }: Verifiers,
): Promise<{ caller: Caller; token: string | null } | null> {
  if (inPath !== null) return { caller: await tokens.verify(inPath), token: inPath };
  const certificate = request.socket instanceof TLSSocket ? request.socket.getPeerX509Certificate() : undefined;
  if (certificate) {
    const caller = certificates.callerOf(certificate);
    tokens.assertStillValid(caller);
    return { caller, token: null };
  }
  const { authorization } = request.headers;
  if (authorization === undefined) return null;
  const token = tokenOfAuthorization(authorization);
  return token === null ? null : { caller: await tokens.verify(token), token };
}
