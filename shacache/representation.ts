import type { IncomingHttpHeaders } from "node:http";

/** What is said of a blob whatever part of it is sent. Its name is its digest, so it can be kept for ever and never goes stale. */
export function representationOf(sha512: string, isPublic: boolean) {
  return {
    "content-type": "application/octet-stream",
    "accept-ranges": "bytes",
    ...validatorsOf(sha512, isPublic),
    "repr-digest": `sha-512=:${Buffer.from(sha512, "hex").toString("base64")}:`,
  };
}

/** What a 304 repeats. Where reads take a credential, a cache in between must not answer those who have none. */
export function validatorsOf(sha512: string, isPublic: boolean) {
  const etag = `"${sha512}"`;
  return { etag, "cache-control": `${isPublic ? "public" : "private"}, max-age=31536000, immutable` };
}

/** The preconditions of a read, in the order of RFC 9110 §13.2.2. There are no dates: a blob has no time of its own. */
export function evaluate(headers: IncomingHttpHeaders, sha512: string): "send" | "not modified" | "failed" {
  const ifMatch = headers["if-match"];
  if (ifMatch !== undefined && !names(ifMatch, sha512, false)) return "failed";
  const ifNoneMatch = headers["if-none-match"];
  return ifNoneMatch !== undefined && names(ifNoneMatch, sha512, true) ? "not modified" : "send";
}

/** The client wants what is stored here, and nothing from upstream (RFC 9111 §5.2.1.7). */
export function isOnlyIfCached(headers: IncomingHttpHeaders): boolean {
  return (headers["cache-control"] ?? "").split(",").some((part) => part.trim().toLowerCase() === "only-if-cached");
}

/** The range that is to be sent: none where it was asked for of another representation (If-Range takes strong tags only). */
export function rangeOf(headers: IncomingHttpHeaders, sha512: string): string | undefined {
  const ifRange = headers["if-range"];
  return ifRange === undefined || ifRange === `"${sha512}"` ? headers.range : undefined;
}

function names(header: string, sha512: string, mayBeWeak: boolean): boolean {
  return header.split(",").some((part) => {
    const tag = part.trim();
    return tag === "*" || tag === `"${sha512}"` || (mayBeWeak && tag === `W/"${sha512}"`);
  });
}

/** The SHA-512 that a sender says its body has (RFC 9530); undefined where it says none. */
export function digestIn(header: string | string[] | undefined): string | undefined {
  const [, value] = /(?:^|,)\s*sha-512=:([A-Za-z0-9+/=]+):/.exec([header ?? ""].flat().join(",")) ?? [];
  return value && Buffer.from(value, "base64").toString("hex");
}
