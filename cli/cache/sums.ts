import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { CacheError } from "./cache-error.js";

export interface Sum {
  sha512: string;
  name: string;
}

/** A line as `sha512sum` writes it, and `sha512sum --check` reads it. */
export function toSumLine({ sha512, name }: Sum): string {
  if (!/[\\\n\r]/.test(name)) return `${sha512}  ${name}`;
  const escaped = name.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll("\r", "\\r");
  return `\\${sha512}  ${escaped}`;
}

/** Null for what is no such line. */
export function parseSumLine(line: string): Sum | null {
  const [, escaped, sha512, name] = /^(\\?)([0-9a-f]{128}) [ *](.+)$/s.exec(line) ?? [];
  if (!sha512 || !name) return null;
  const unescaped = name.replace(/\\([\\nr])/g, (_, letter) => ({ n: "\n", r: "\r" })[letter as string] ?? "\\");
  return { sha512, name: escaped ? unescaped : name };
}

/** The sums in a file, or on stdin where it is `-`. */
export async function* readSums(file: string): AsyncGenerator<Sum> {
  const input = file === "-" ? process.stdin : createReadStream(file);
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line.trim() === "") continue;
    const sum = parseSumLine(line);
    if (!sum) throw new CacheError("refused", `${file} is no list of SHA-512 sums: ${line.slice(0, 80)}`);
    yield sum;
  }
}
