/** What the `slapgraph` command asks the gateway, which answers it also where it answers registered documents only. */
export const commandDocuments = {
  createProject: mutation("createProject", "project { name }"),
  createPerson: mutation("createPerson", "person { subject }"),
  revokeRole: mutation("revokeRole", "tokens { tokenId }"),
  createToken: mutation("createToken", "secret masterUrl token { tokenId }"),
  createInstanceToken: mutation("createInstanceToken", "credential"),
  revokeToken: mutation("revokeToken", "token { tokenId }"),
  createRegistrationToken: mutation("createRegistrationToken", "secret"),
  revokeRegistrationToken: mutation("revokeRegistrationToken", "registrationToken { id }"),
  createComputer: mutation("createComputer", "masterUrl"),
  rotateSigningKey: mutation("rotateSigningKey", "signingKey { keyId }"),
  reindexArtifacts: `mutation { reindexArtifacts { ${reindex()} userErrors { code message } } }`,
  reindex: `{ ${reindex()} }`,
  computer: "query ($reference: String!) { computer(reference: $reference) { reference } }",
  signingKeys: "{ signingKeys { keyId isCurrent createdAt endsAt } }",
  auditRecords: `query ($last: Int, $filter: AuditFilterInput) { auditRecords(last: $last, filter: $filter) {
    edges { node { at actor actorKind door action target project result code } } } }`,
  projects: list("projects", "name title createdAt"),
  persons: list("persons", "subject displayName createdAt roles { project role }"),
  tokens: list("tokens", "tokenId kind subject project role expiresAt revokedAt"),
  registrationTokens: list("registrationTokens", "id project uses usesLeft createdBy expiresAt revokedAt"),
  computers: list("computers", "reference title project liveness scope lastContactAt"),
  artifacts: list("artifacts", "sha512 sizeBytes createdAt lastReadAt uploadedBy"),
} as const;

/** Each is named by its root field. */
export type CommandDocument = keyof typeof commandDocuments;

/** The mutation of a field that takes one input of the type that is named after it. */
function mutation(name: string, selection: string): string {
  const type = `${name[0]?.toUpperCase()}${name.slice(1)}Input`;
  return `mutation ($input: ${type}!) { ${name}(input: $input) { ${selection} userErrors { code message } } }`;
}

/** One page of a connection at the root. */
function list(field: string, selection: string): string {
  return `query ($after: String) { ${field}(first: 100, after: $after) { edges { node { ${selection} } } pageInfo { hasNextPage endCursor } } }`;
}

function reindex(): string {
  return "reindex { finishedAt restoredEntries restoredArtifacts readBytes failure }";
}
