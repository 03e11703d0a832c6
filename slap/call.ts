import type http from "node:http";
import { TLSSocket } from "node:tls";
import { callerOf, type Verifiers } from "../common/credentials.js";
import { AppError } from "../common/errors.js";
import type { Caller } from "../common/identity.js";
import { readBody, readEnds } from "../common/request-body.js";
import { partitionKeyOf } from "./codec.js";

/** Percent-encoded form fields; the XML inside is bounded again by its own reader. */
const maxBodyBytes = 16 * 1024 * 1024;
const maxLogBytes = 1024 * 1024 * 1024;
const keptLogBytes = 4 * 1024 * 1024;

/** One SLAP request: who, what, and the fields of its query or its form body. */
export interface SlapCall {
  caller: Caller;
  endpoint: string;
  fields: URLSearchParams;
  /** The body as it came, where it is no form. */
  body: string;
  /** The partition that `X-SlapPartition` names. A claim about what is meant, never a proof of who calls (§8.2). */
  partitionHeader: { computerReference: string; partitionReference: string } | null;
  /** This door as the caller reached it, with the credential that the links it follows have to carry. No slash at the end. */
  baseUrl: string;
}

/** What says who calls, and under which address the door is known where it is not the one that was called. */
export interface Credentials extends Verifiers {
  publicUrl: string | undefined;
}

/**
 * `/k/<token>/<endpoint>` or `/<endpoint>` with an Authorization header: the token in the path is what every client sends
 * always. Upstream's standalone asks for its master_url as it is and for `<master_url>/hateoas`: with the slash at its end
 * or without, one of the two has a slash more or less than the rest of the calls.
 */
export function parseTarget(target: string): { token: string | null; endpoint: string; query: string } {
  const [path = "", query = ""] = splitOnce(target, "?");
  const prefixed = /^\/k\/([^/]+)(?:\/+(.*))?$/.exec(path);
  if (prefixed) return { token: prefixed[1] ?? "", endpoint: prefixed[2] ?? "", query };
  return { token: null, endpoint: path.replace(/^\/+/, ""), query };
}

export async function readCall(request: http.IncomingMessage, credentials: Credentials): Promise<SlapCall> {
  const { token: inPath, endpoint, query } = parseTarget(request.url ?? "/");
  const known = await callerOf(request, inPath, credentials);
  if (known === null) throw new AppError("UNAUTHENTICATED", "No credential came with the call.");
  const { caller, token } = known;
  const header = request.headers.authorization;
  const body = request.method === "POST" ? (await readForm(request, endpoint)).toString("utf8") : "";
  return {
    caller,
    endpoint,
    // A POST may have some of its fields in its target; those of the form win.
    fields: new URLSearchParams(request.method === "POST" && !isJson(request) ? joined(body, query) : query),
    body,
    partitionHeader: parsePartitionHeader(header ?? request.headers["x-slappartition"]),
    baseUrl: originOf(request, credentials.publicUrl) + (token === null ? "" : `/k/${token}`),
  };
}

/** Of a build's whole output the node would lose all if it were refused: what is in the middle of a large one is left out. */
function readForm(request: http.IncomingMessage, endpoint: string): Promise<Buffer> {
  const isLog = endpoint === "softwareReleaseError" || endpoint === "softwareInstanceError";
  return isLog ? readEnds(request, maxLogBytes, keptLogBytes) : readBody(request, maxBodyBytes);
}

function isJson(request: http.IncomingMessage): boolean {
  return (request.headers["content-type"] ?? "").startsWith("application/json");
}

function joined(body: string, query: string): string {
  return query === "" ? body : `${body}&${query}`;
}

function originOf(request: http.IncomingMessage, publicUrl: string | undefined): string {
  const isTls = request.socket instanceof TLSSocket;
  if (publicUrl !== undefined && !isTls) return publicUrl;
  const host = request.headers.host ?? "";
  if (!/^[\w.-]+(:\d+)?$|^\[[\da-f:.]+\](:\d+)?$/i.test(host))
    throw new AppError("BAD_USER_INPUT", "The Host header names no host.");
  return `${isTls ? "https" : "http"}://${host}`;
}

/** A field's value. The client sends None as the word `None`, which is absence in any case. */
export function optional(fields: URLSearchParams, name: string): string | null {
  const value = fields.get(name);
  return value === null || value === "" || value.toLowerCase() === "none" ? null : value;
}

export function required(fields: URLSearchParams, name: string): string {
  const value = optional(fields, name);
  if (value === null) throw new AppError("BAD_USER_INPUT", `The field ${name} is missing.`);
  return value;
}

/** The partition that a call is about, by its fields; a header that names another one is refused as unknown. */
export function partitionOfCall(call: SlapCall): string {
  const { fields, partitionHeader } = call;
  const computer = optional(fields, "computer_id") ?? partitionHeader?.computerReference;
  const partition = optional(fields, "computer_partition_id") ?? partitionHeader?.partitionReference;
  if (!computer || !partition)
    throw new AppError("BAD_USER_INPUT", "The fields computer_id and computer_partition_id are missing.");
  if (
    partitionHeader &&
    (partitionHeader.computerReference !== computer || partitionHeader.partitionReference !== partition)
  ) {
    throw new AppError("NOT_FOUND", "X-SlapPartition names another partition than the call.");
  }
  return partitionKeyOf(computer, partition);
}

/** `X-SlapPartition computer_id=COMP-1, computer_partition_id=slappart0`, which 1.26 sends as Authorization. */
function parsePartitionHeader(header: string | string[] | undefined): SlapCall["partitionHeader"] {
  if (typeof header !== "string") return null;
  const match = /^(?:X-SlapPartition\s+)?computer_id=([^,\s]+),\s*computer_partition_id=([^,\s]+)$/i.exec(
    header.trim(),
  );
  return match?.[1] && match[2] ? { computerReference: match[1], partitionReference: match[2] } : null;
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at === -1 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
