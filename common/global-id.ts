import { AppError } from "./errors.js";

/** Global id: base64url(`Type:naturalKey`), so that any subgraph can name an entity that it does not own. */
export function toGlobalId(type: string, naturalKey: string): string {
  return Buffer.from(`${type}:${naturalKey}`, "utf8").toString("base64url");
}

const maxGlobalIdLength = 4096;

export function parseGlobalId(id: string): { type: string; naturalKey: string } | null {
  if (id.length > maxGlobalIdLength || !/^[A-Za-z0-9_-]+$/.test(id)) return null;
  const text = Buffer.from(id, "base64url").toString("utf8");
  const colon = text.indexOf(":");
  if (colon < 1 || toGlobalId(text.slice(0, colon), text.slice(colon + 1)) !== id) return null;
  return { type: text.slice(0, colon), naturalKey: text.slice(colon + 1) };
}

/** The natural key in an id of one type. A malformed id or one of another type is BAD_USER_INPUT. */
export function naturalKeyOf(type: string, id: string): string {
  const parsed = parseGlobalId(id);
  if (parsed?.type !== type)
    throw new AppError("BAD_USER_INPUT", `This is not the id of a ${type}: ${id.slice(0, 80)}`);
  return parsed.naturalKey;
}
