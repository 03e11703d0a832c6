import type { AuditTrail } from "../common/audit.js";
import { optional, type SlapCall } from "./call.js";
import { isJsonRpc } from "./json-rpc.js";
import type { Route, SlapAnswer, SlapServices } from "./routes.js";

/** What a node tells of itself and of what it runs, again and again: news, for the event log, and no decision of anybody. */
const reports = new Set([
  "availableSoftwareRelease",
  "buildingSoftwareRelease",
  "destroyedComputerPartition",
  "destroyedSoftwareRelease",
  "loadComputerConfigurationFromXML",
  "setComputerPartitionConnectionXml",
  "softwareInstanceError",
  "softwareReleaseError",
  "startedComputerPartition",
  "stoppedComputerPartition",
  "updateComputerPartitionRelatedInstanceList",
  "useComputer",
  "slapos.post.v0.compute_node_usage",
  "slapos.put.v0.compute_node_format",
  "slapos.put.v0.software_installation_error",
  "slapos.put.v0.software_installation_reported_state",
  "slapos.put.v0.software_instance_connection_parameter",
  "slapos.put.v0.software_instance_error",
  "slapos.put.v0.software_instance_reported_state",
]);

/** JSON-RPC asks by POST too. */
const questions = /^slapos\.(get|allDocs)\./;

/** Answers a call with its record in the audit trail: of commands always, of questions where they make something. */
export function answerAudited(
  route: Route,
  call: SlapCall,
  services: SlapServices,
  request: { method: string | undefined; id: string },
  audit: AuditTrail,
): Promise<SlapAnswer> {
  const { caller, endpoint } = call;
  const answer = () => route(call, services);
  if (reports.has(endpoint)) return answer();
  const command = { door: "SLAP" as const, action: endpoint, caller, requestId: request.id, target: targetOf(call) };
  const isQuestion = request.method === "GET" || questions.test(endpoint);
  return isQuestion ? audit.runQuietly(command, answer) : audit.run(command, answer);
}

/** What a call names, by its form or by its JSON. */
function targetOf({ endpoint, fields, body }: SlapCall): string | null {
  const named = isJsonRpc(endpoint) ? namesIn(body) : (name: string) => optional(fields, name);
  const computer = named("computer_id") ?? named("computer_guid");
  const partition = named("computer_partition_id");
  if (computer !== null) return partition === null ? computer : `${computer}/${partition}`;
  return named("instance_guid") ?? named("partition_reference") ?? named("title") ?? named("computer_title");
}

function namesIn(body: string): (name: string) => string | null {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    // What is no JSON names nothing, and is refused as such.
  }
  const input = typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  return (name) => (typeof input[name] === "string" ? input[name] : null);
}
