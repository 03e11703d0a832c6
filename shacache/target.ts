/** The raw request target split by hand: a URL parser would change keys (shacache-protocol.md §1.1). */
export interface Target {
  token: string | null;
  store: "shacache" | "shadir" | null;
  key: string | null;
}

export function parseTarget(target: string): Target {
  const prefixed = /^\/k\/([^/]+)(\/.*)$/s.exec(target);
  const rest = prefixed?.[2] ?? target;
  const match = /^\/(shacache|shadir)(?:\/(.*))?$/s.exec(rest);
  return {
    token: prefixed?.[1] ?? null,
    store: (match?.[1] as Target["store"]) ?? null,
    key: match?.[2] === undefined || match[2] === "" ? null : match[2],
  };
}
