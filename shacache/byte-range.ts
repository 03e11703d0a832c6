import type { ByteRange } from "./blob-store.js";

/** One range of bytes, both ends inclusive; null for none or for a form that is better ignored than refused (RFC 9110 §14.2). */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | "unsatisfiable" | null {
  const match = /^bytes=(\d*)-(\d*)$/i.exec(header ?? "");
  if (!match || (match[1] === "" && match[2] === "")) return null;
  const last = sizeBytes - 1;
  if (match[1] === "") {
    const length = Math.min(Number(match[2]), sizeBytes);
    return length === 0 ? "unsatisfiable" : { start: sizeBytes - length, end: last };
  }
  const start = Number(match[1]);
  const end = match[2] === "" ? last : Math.min(Number(match[2]), last);
  if (start > last) return "unsatisfiable";
  return end < start ? null : { start, end };
}
