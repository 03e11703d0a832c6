import { refusal } from "./operation-limits.plugin.js";
import { documentId, type TrustedDocuments } from "./trusted-documents.js";

/** As they came: a client may send anything here. */
interface Params {
  query?: unknown;
  documentId?: unknown;
  extensions?: { persistedQuery?: { sha256Hash?: unknown } | null } | null;
}

interface ParamsPayload {
  params: Params;
  setParams: (params: Params) => void;
  setResult: (result: unknown) => void;
}

/**
 * Answers registered documents only: by their id, in the two forms that clients have for it, or by their whole text.
 * `@graphql-yoga/plugin-persisted-operations` does the first, and refuses the text of what it knows.
 */
export function onlyTrusted(documents: TrustedDocuments) {
  return {
    onParams({ params, setParams, setResult }: ParamsPayload): void {
      const named = params.extensions?.persistedQuery?.sha256Hash ?? params.documentId;
      const text = typeof params.query === "string" ? params.query : "";
      const id = typeof named === "string" ? named : documentId(text);
      const query = documents.get(id) ?? documents.get(documentId(text.trim()));
      // The pipeline refuses a request without a text before it looks at its result.
      setParams({ ...params, query: query ?? "{ __typename }" });
      if (query !== undefined) return;
      const message = "This gateway answers registered documents only, and this is none of them.";
      setResult(refusal("DOCUMENT_NOT_TRUSTED", message));
    },
  };
}
