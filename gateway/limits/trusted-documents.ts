import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { type GraphQLSchema, parse, validate } from "graphql";
import { ConfigError } from "../../common/config.js";
import { AppError } from "../../common/errors.js";
import { commandDocuments } from "../../schema/command.documents.js";

/** Registered documents by the SHA-256 of their text, in hexadecimal. */
export type TrustedDocuments = ReadonlyMap<string, string>;

/** The name under which a document is known: Apollo's and Relay's, so that their clients can send it. */
export function documentId(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/**
 * The registered document that a client means: by its id, in the two forms that clients have for it, or by its whole text. A
 * text that is sent beside an id is not looked at. DOCUMENT_NOT_TRUSTED for any other.
 */
export function trustedText(
  documents: TrustedDocuments,
  query: unknown,
  id: unknown,
  extensions: Record<string, unknown> | undefined,
): string {
  const persisted = extensions?.persistedQuery as { sha256Hash?: unknown } | null | undefined;
  const named = persisted?.sha256Hash ?? id;
  const text = typeof query === "string" ? query : "";
  const known =
    typeof named === "string"
      ? documents.get(named)
      : (documents.get(documentId(text)) ?? documents.get(documentId(text.trim())));
  if (known !== undefined) return known;
  throw new AppError(
    "DOCUMENT_NOT_TRUSTED",
    "This gateway answers registered documents only, and this is none of them.",
  );
}

/**
 * Reads a folder of documents: each `.graphql` file is one, and each `.json` file a manifest of many by their ids, as
 * client builds write it. Those of the `slapgraph` command are always among them. A ConfigError says which is wrong: a
 * document that is registered can be answered.
 */
export function readTrustedDocuments(folder: string): TrustedDocuments {
  const documents = new Map(Object.values(commandDocuments).map((text) => [documentId(text), text]));
  for (const name of list(folder)) {
    const file = path.join(folder, name);
    if (name.endsWith(".graphql")) {
      const text = readFileSync(file, "utf8");
      documents.set(documentId(text), text);
      // An editor's newline at the end is not what a client sends.
      documents.set(documentId(text.trim()), text.trim());
    }
    if (name.endsWith(".json")) for (const [id, text] of readManifest(file)) documents.set(id, text);
  }
  return documents;
}

/** Throws at start what would be refused at each call. */
export function checkTrustedDocuments(documents: TrustedDocuments, schema: GraphQLSchema): void {
  for (const text of documents.values()) {
    const [problem] = problemsOf(text, schema);
    if (problem !== undefined)
      throw new ConfigError(`SLAPGRAPH_TRUSTED_DOCUMENTS: ${problem} In the document: ${text.trim().slice(0, 200)}`);
  }
}

function problemsOf(text: string, schema: GraphQLSchema): string[] {
  try {
    return validate(schema, parse(text)).map((error) => error.message);
  } catch (error) {
    return [(error as Error).message];
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    throw new ConfigError(
      `SLAPGRAPH_TRUSTED_DOCUMENTS is wrong: it accepts a folder of .graphql and .json files. ${(error as Error).message}`,
    );
  }
}

function readManifest(file: string): [id: string, text: string][] {
  let manifest: unknown;
  try {
    manifest = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new ConfigError(`SLAPGRAPH_TRUSTED_DOCUMENTS: ${file} is not JSON: ${(error as Error).message}`);
  }
  const entries = Object.entries(typeof manifest === "object" && manifest !== null ? manifest : {});
  for (const [id, text] of entries) {
    if (typeof text !== "string" || documentId(text) !== id)
      throw new ConfigError(`SLAPGRAPH_TRUSTED_DOCUMENTS: in ${file}, ${id} is not the SHA-256 of its document.`);
  }
  return entries as [string, string][];
}
