import { createHash } from "node:crypto";
import { AppError } from "../../common/errors.js";

const sha512Pattern = /^[0-9a-f]{128}$/;
const maxReleaseUrlLength = 2_000;

/** The outer shape is strict; what the texts hold is the readers' business (shacache-protocol.md part 2, 5). */
export function parsePair(body: string): [metadata: string, signature: string] {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    throw new AppError("BAD_USER_INPUT", `The body is not JSON: ${(error as Error).message}`);
  }
  if (Array.isArray(value) && value.length === 2 && typeof value[0] === "string" && typeof value[1] === "string") {
    return [value[0], value[1]];
  }
  throw new AppError("BAD_USER_INPUT", "The body is not a JSON array of two texts: metadata and signature.");
}

/** The blob that the metadata names, and the release that it is a build of; null where it is not what the client would read. */
export function readMetadata(metadata: string): { sha512: string | null; releaseUrl: string | null } {
  let value: { sha512?: unknown; software_url?: unknown } | null = null;
  try {
    value = JSON.parse(metadata);
  } catch {
    // Nobody's business but the reader's.
  }
  const { sha512, software_url: url } = value ?? {};
  return {
    sha512: typeof sha512 === "string" && sha512Pattern.test(sha512) ? sha512 : null,
    releaseUrl: typeof url === "string" && url.length <= maxReleaseUrlLength && isStorable(url) ? url : null,
  };
}

/** The database takes no NUL, and no half of a pair of surrogates. */
const isStorable = (text: string) => !text.includes("\0") && text.isWellFormed();

/** An identical PUT is the same entry, and a long key still fits an index. */
export function idOf(key: string, body: string): string {
  const digest = (algorithm: string, text: string) => createHash(algorithm).update(text).digest("hex");
  return `${digest("sha512", body)} ${digest("sha256", key)}`;
}
