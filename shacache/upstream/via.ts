import { randomUUID } from "node:crypto";

/** This process among the caches that a request may pass, for the header `Via` (RFC 9110 §7.6.3). */
const pseudonym = `slapgraph-${randomUUID()}`;
const maxCaches = 8;

/** What to send on, or null where the request has been here before or has come too far: it is then answered from here alone. */
export function onwardVia(via: string | undefined): string | null {
  const passed = (via ?? "").split(",").filter((part) => part.trim() !== "");
  if (passed.length >= maxCaches || passed.some((part) => part.trim().endsWith(pseudonym))) return null;
  return [...passed.map((part) => part.trim()), `1.1 ${pseudonym}`].join(", ");
}
