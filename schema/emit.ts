import { readFile, writeFile } from "node:fs/promises";
import { errorTable } from "../common/errors.js";
import { composeSupergraph, type SubgraphSdl } from "../gateway/compose.js";
import { nodeName, nodeSdl } from "../gateway/node.subgraph.js";
import { schemaFolder } from "./committed.js";

function filesOf(subgraphs: readonly SubgraphSdl[]): Map<string, string> {
  const all = [...subgraphs.map(({ name, sdl }) => ({ name, sdl })), { name: nodeName, sdl: nodeSdl }];
  const files = new Map(all.map(({ name, sdl }) => [`${name}.graphql`, sdl]));
  files.set("supergraph.graphql", `${composeSupergraph(all).trim()}\n`);
  files.set("errors.md", errorPage());
  return files;
}

function errorPage(): string {
  const rows = Object.entries(errorTable).map(
    ([code, { httpStatus, retryable, meaning, remedy }]) =>
      `| \`${code}\` | ${httpStatus} | ${retryable ? "yes" : "no"} | ${meaning} | ${remedy} |`,
  );
  return `# Error codes

Generated from \`common/errors.ts\` by \`npm run schema\`. GraphQL errors carry the code in \`extensions.code\`, mutations also
in \`userErrors\`; the other doors answer with the status and a body that begins with the code. GraphQL itself adds
\`GRAPHQL_PARSE_FAILED\` and \`GRAPHQL_VALIDATION_FAILED\` for a document that is not one or does not fit the schema, and
\`OPERATION_RESOLUTION_FAILURE\` where \`operationName\` names none of its operations.

| code | HTTP status | retry | meaning | remedy |
|---|---|---|---|---|
${rows.join("\n")}
`;
}

export async function writeSchemas(subgraphs: readonly SubgraphSdl[]): Promise<void> {
  for (const [name, text] of filesOf(subgraphs)) await writeFile(new URL(name, schemaFolder), text);
}

/** Throws when a committed file is not what the code emits. */
export async function checkSchemas(subgraphs: readonly SubgraphSdl[]): Promise<void> {
  const drifted: string[] = [];
  for (const [name, text] of filesOf(subgraphs)) {
    const committed = await readFile(new URL(name, schemaFolder), "utf8").catch(() => null);
    if (committed !== text) drifted.push(`schema/${name}`);
  }
  if (drifted.length === 0) return;
  process.stderr.write(
    `${drifted.join(", ")}: not what the code emits. Run \`npm run schema\`, look at the difference, and commit it.\n`,
  );
  process.exitCode = 1;
}
