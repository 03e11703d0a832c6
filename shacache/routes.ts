import type http from "node:http";
import type { AuditTrail } from "../common/audit.js";
import { AppError } from "../common/errors.js";
import type { Caller } from "../common/identity.js";
import { identify, requireWriter, type ShacacheAccess, whileGood } from "./access.js";
import { blobRoutes } from "./blob.routes.js";
import type { ShacacheServices } from "./context.js";
import { directoryRoutes } from "./directory.routes.js";
import { parseTarget } from "./target.js";

/** One request of whoever may make it. `caller` is null where reads or writes are open to anybody. */
export interface Exchange {
  request: http.IncomingMessage;
  response: http.ServerResponse;
  services: ShacacheServices;
  caller: Caller | null;
  /** Whether anybody may read, and so any cache in between may keep what is read. */
  isPublic: boolean;
  uploadStallMs: number;
  /** The raw target after the store's prefix, "" where there is none. */
  key: string;
}

/** Writes an answer, or throws the AppError that the door answers with. */
export type Route = (exchange: Exchange) => Promise<void>;

/** By method, store, and `/*` where a key follows: `GET /shadir/*`. */
export type Routes = Record<string, Route>;

export const routes: Routes = { ...blobRoutes, ...directoryRoutes };

export async function route(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  services: ShacacheServices,
  access: ShacacheAccess,
  audit: AuditTrail,
  requestId: string,
): Promise<void> {
  const { method = "GET" } = request;
  const { token, store, key } = parseTarget(request.url ?? "/");
  const isRead = method === "GET" || method === "HEAD";
  const caller = await identify(request, token, isRead, access);
  const name = `${method} /${store}${key === null ? "" : "/*"}`;
  const answer = Object.hasOwn(routes, name) ? routes[name] : undefined;
  if (!answer) throw new AppError("NOT_FOUND", "Blobs are at /shacache/<sha512>, the directory at /shadir/<key>.");
  const exchange = {
    request,
    response,
    services,
    caller,
    isPublic: access.openReads,
    uploadStallMs: access.uploadStallMs,
    key: key ?? "",
  };
  const answerWhileGood = () => whileGood(caller, access, response, () => answer(exchange));
  if (isRead) return answerWhileGood();
  return audit.run({ door: "SHACACHE", action: name, caller, requestId, target: key }, async () => {
    requireWriter(caller);
    await answerWhileGood();
  });
}
