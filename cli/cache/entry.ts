import { createHash, createSign, createVerify } from "node:crypto";
import { readFileSync } from "node:fs";
import { CacheError } from "./cache-error.js";

export type Metadata = Record<string, unknown> & { sha512: string };

/** The key under which `networkcache-upload --url` puts what a URL points to (shacache-protocol.md §1.4). */
export const keyOfUrl = (url: string) => `file-urlmd5:${createHash("md5").update(url).digest("hex")}`;

/** A directory entry as libnetworkcache writes it: the signature is RSA over the SHA-1 of the metadata's text (§1.3). */
export function toEntry(metadata: Metadata, signingKey: string | null): [metadata: string, signature: string] {
  const text = JSON.stringify(metadata);
  return [text, signingKey === null ? "" : createSign("RSA-SHA1").update(text).sign(signingKey, "base64")];
}

/** The entries that a client would take, in their order: readable, naming a blob, signed by one of the certificates if any is given. */
export function fittingEntries(
  entries: [metadata: string, signature: string][],
  certificates: readonly string[],
  wanted: Record<string, string>,
): Metadata[] {
  return entries.flatMap(([text, signature]) => {
    const metadata = parseMetadata(text);
    if (metadata === null) return [];
    if (certificates.length > 0 && !certificates.some((one) => isSignedBy(text, signature, one))) return [];
    return Object.entries(wanted).every(([name, value]) => String(metadata[name]) === value) ? [metadata] : [];
  });
}

export function parseMetadata(text: string): Metadata | null {
  try {
    const value = JSON.parse(text) as Metadata | null;
    return /^[0-9a-f]{128}$/.test(value?.sha512 ?? "") ? value : null;
  } catch {
    return null;
  }
}

function isSignedBy(text: string, signature: string, certificate: string): boolean {
  if (signature.trim() === "") return false;
  return createVerify("RSA-SHA1").update(text).verify(certificate, signature, "base64");
}

export function readPem(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new CacheError("refused", (error as Error).message);
  }
}
