import type { AuditTrail } from "./audit.js";
import type { Subgraph, SubgraphContext } from "./subgraph.js";

/** What names the thing that a mutation is about, the most telling first. Secrets have no such names. */
const naming = [
  "reference",
  "id",
  "key",
  "name",
  "subject",
  "person",
  "computerReference",
  "productName",
  "url",
  "releaseUrl",
  "sha512",
  "title",
] as const;

/** Makes every mutation of a subgraph a command of the audit trail, those to come too. Once for each subgraph. */
export function auditMutations(subgraph: Subgraph, audit: AuditTrail): Subgraph {
  for (const field of Object.values(subgraph.schema.getMutationType()?.getFields() ?? {})) {
    const { resolve } = field;
    if (!resolve) continue;
    field.resolve = (root, args, context: SubgraphContext, info) => {
      const { caller, requestId } = context;
      const target = targetOf(args.input ?? args);
      const command = { door: "GRAPHQL" as const, action: field.name, caller, requestId, target };
      return audit.run(command, async () => resolve(root, args, context, info), refusalIn);
    };
  }
  return subgraph;
}

function targetOf(input: Record<string, unknown>): string | null {
  const name = naming.find((one) => typeof input[one] === "string");
  return name === undefined ? null : String(input[name]);
}

/** The payload's first user error. */
function refusalIn(payload: unknown): string | null {
  const errors = (payload as { userErrors?: { code: string }[] } | null)?.userErrors;
  return errors?.[0]?.code ?? null;
}
