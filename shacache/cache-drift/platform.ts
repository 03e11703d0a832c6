export interface Platform {
  multiarch: string;
  /** Distribution, version and codename, as far as slapgrid tells systems apart by them. */
  os: string[];
}

/**
 * The platform that an entry of slapgrid's binary cache is for, null where its metadata says none. As slapgrid compares them
 * (shacache-protocol.md §1.4): Raspbian is a Debian, and of Debian only the major version counts.
 */
export function platformOf(metadata: string): Platform | null {
  const entry = parse(metadata);
  const multiarch = entry.multiarch ?? (entry.machine === "x86_64" ? "x86_64-linux-gnu" : null);
  const os = Array.isArray(entry.os) ? entry.os : partsOfTuple(entry.os);
  if (typeof multiarch !== "string" || os.length !== 3 || !os.every((part) => typeof part === "string")) return null;
  const [name, version, codename] = os as [string, string, string];
  const distribution = name.toLowerCase() === "raspbian" ? "debian" : name.toLowerCase();
  return {
    multiarch,
    os: distribution === "debian" ? [distribution, version.split(".")[0] ?? "", ""] : [distribution, version, codename],
  };
}

function parse(metadata: string): Record<string, unknown> {
  try {
    const value = JSON.parse(metadata) as unknown;
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Old entries have the tuple as Python writes it: `('debian', '12', 'bookworm')`. */
function partsOfTuple(text: unknown): string[] {
  if (typeof text !== "string") return [];
  return [...text.matchAll(/u?'([^']*)'|u?"([^"]*)"/g)].map(([, single, double]) => single ?? double ?? "");
}
