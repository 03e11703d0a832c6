import { z } from "zod";
import { AppError } from "../common/errors.js";
import { maxNesting, nestsTooDeep } from "../common/nesting.js";
import type { InstanceRow } from "../subgraphs/computer/instance/instance.service.js";
import type { RequestedState } from "../subgraphs/computer/instance/instance.state.js";
import type { NodeViewService, PlacedInstance } from "../subgraphs/computer/node-view.js";
import type { InterfaceAddress, RoutedAddress } from "../subgraphs/computer/partition/partition.entity.js";
import { mayReadConnection } from "../subgraphs/computer/visibility.js";
import { partitionOfCall, type SlapCall } from "./call.js";
import { accessStatus, computerStatus, isPartitionReference, toWireParameters } from "./codec.js";
import { hateoasPath } from "./hateoas.js";
import { bangMessage, computerOf, type Route, type SlapServices, withoutControlCharacters } from "./routes.js";
import { checkUsageReport } from "./usage-report.js";

/** Upstream's JSON-RPC (§1.6, `slapos/proxy/json_rpc.json`): closed schemas, all POST, over the same services as the XML. */
type Method = (call: SlapCall, services: SlapServices) => Promise<object>;

const text = z.string();
const computer = { computer_guid: text };
const instance = { instance_guid: text };
const title = z.string().max(200);
const message = text.transform(withoutControlCharacters);

/** A method whose input is checked first: BAD_USER_INPUT names the property that is wrong, and unknown ones are refused. */
function method<Shape extends z.ZodRawShape>(
  shape: Shape,
  answer: (input: z.infer<z.ZodObject<Shape>>, call: SlapCall, services: SlapServices) => Promise<object>,
): Method {
  const schema = z.strictObject(shape);
  return async (call, services) => {
    const parsed = schema.safeParse(parseJson(call.body));
    if (parsed.success) return answer(parsed.data as z.infer<z.ZodObject<Shape>>, call, services);
    const [issue] = parsed.error.issues;
    throw new AppError("BAD_USER_INPUT", `${issue?.path.join(".") || "the body"}: ${issue?.message ?? "is wrong"}`);
  };
}

function parseJson(body: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch (error) {
    throw new AppError("BAD_USER_INPUT", "The body is not JSON.", { cause: error });
  }
  if (nestsTooDeep(value)) throw new AppError("BAD_USER_INPUT", `JSON nests up to ${maxNesting} levels.`);
  return value;
}

const success = (what: string) => ({ type: "success", title: what });

const ip = z.object({
  "ip-address": text,
  netmask: text.optional(),
  "network-interface": text.optional(),
  "gateway-ip-address": text.optional(),
  "network-address": text.optional(),
});

export const methods: Record<string, Method> = {
  "get.v0.hateoas_url": method({}, async (_input, { baseUrl }) => ({ hateoas_url: `${baseUrl}/${hateoasPath}/` })),

  "get.v0.compute_node_status": method(computer, async ({ computer_guid }, { caller }, { computers }) => {
    const [row] = await computers.computersByReference(caller, [computer_guid]);
    if (!row) throw new AppError("NOT_FOUND", "There is no such computer.");
    return { text: computerStatus(row) };
  }),

  "get.v0.compute_partition": method(
    { ...computer, compute_partition_id: text },
    async ({ computer_guid, compute_partition_id }, call, { nodeViews }) => {
      const nothing = new AppError("NOT_FOUND", `No instance on partition ${compute_partition_id} found.`);
      const key = `${computer_guid}/${compute_partition_id}`;
      const hosted = await orElse(nodeViews.partitionOf(call.caller, key), nothing);
      if (!hosted.instance) throw nothing;
      return instanceDocument(call, { ...hosted, instance: hosted.instance });
    },
  ),

  "get.v0.software_instance": method(instance, async ({ instance_guid }, call, { nodeViews }) =>
    instanceDocument(call, await find(call, nodeViews, instance_guid)),
  ),

  "get.v0.software_instance_certificate": method(instance, async ({ instance_guid }, call, services) => {
    const placed = await find(call, services.nodeViews, instance_guid);
    // Only its node and itself: whoever else sees an instance does not speak for it.
    const hosted = services.nodeViews.partitionOf(call.caller, placed.partition?.key ?? "");
    const { instance: row } = await orElse(hosted, noInstance(instance_guid));
    if (row?.reference !== instance_guid) throw new AppError("NOT_FOUND", "A shared instance has no certificate.");
    const { certificate, key } = await services.certificates.instanceCertificate(call.caller, row);
    return { certificate, key };
  }),

  "get.v0.instance_tree": method({ title }, async (input, call, { nodeViews }) =>
    orElse(
      nodeViews.treeOf(call.caller, input.title).then((placed) => instanceDocument(call, allocated(placed))),
      new AppError("NOT_FOUND", `No instance tree ${input.title} found.`),
    ),
  ),

  "post.v0.software_installation": method(
    { ...computer, software_release_uri: text, state: z.enum(["available", "destroyed"]).default("available") },
    async ({ computer_guid, software_release_uri, state }, { caller }, { installations }) => {
      if (state === "available") await installations.supplySoftware(caller, computer_guid, software_release_uri);
      else await installations.withdrawSoftware(caller, computer_guid, software_release_uri);
      return success(`Supplied ${software_release_uri} to be ${state}`);
    },
  ),

  "post.v0.software_instance": method(
    {
      title,
      software_release_uri: text,
      software_type: text,
      parameters: z.record(text, z.unknown()).default({}),
      sla_parameters: z.record(text, z.union([text, z.number()])).default({}),
      state: z.enum(["started", "stopped", "destroyed"]).default("started"),
      shared: z.boolean().default(false),
    },
    async (input, call, { instances, nodeViews }) => {
      const { caller, partitionHeader } = call;
      if (partitionHeader) await checkRequester(call, nodeViews);
      try {
        const { reference } = await instances.requestInstance(caller, {
          title: input.title,
          releaseUrl: input.software_release_uri,
          softwareType: input.software_type,
          parameters: input.parameters,
          filter: Object.fromEntries(Object.entries(input.sla_parameters).map(([key, value]) => [key, String(value)])),
          requestedState: input.state.toUpperCase() as RequestedState,
          requesterPartitionKey: partitionHeader === null ? null : partitionOfCall(call),
          isShared: input.shared,
        });
        const placed = await nodeViews.instanceOf(caller, reference);
        if (!placed.partition) return notReady;
        return { ...instanceDocument(call, placed), ip_list: placed.partition.addresses };
      } catch (error) {
        if (error instanceof AppError && error.code === "STATE_CONFLICT") return notReady;
        throw error;
      }
    },
  ),

  "post.v0.compute_node_usage": method(
    { ...computer, tioxml: text },
    async ({ computer_guid, tioxml }, { caller }, services) =>
      orIgnored(async () => {
        await computerOf(caller, computer_guid, services);
        await services.usage.reportUsage(caller, computer_guid, checkUsageReport(tioxml));
        return success("Usage reported");
      }),
  ),

  "post.v0.compute_node_certificate": method(computer, async ({ computer_guid }, { caller }, services) => {
    const holder = await computerOf(caller, computer_guid, services);
    const { certificate, key } = await services.certificates.createComputerCertificate(caller, holder);
    return { certificate, key };
  }),

  "remove.v0.compute_node_certificate": method(computer, async ({ computer_guid }, { caller }, services) =>
    orIgnored(async () => {
      const holder = await computerOf(caller, computer_guid, services);
      await services.certificates.revokeComputerCertificate(caller, holder);
      return success("Certificate removed");
    }),
  ),

  "put.v0.compute_node_format": method(
    {
      ...computer,
      compute_partition_list: z.array(z.object({ partition_id: text, ip_list: z.array(ip).default([]) })),
    },
    async ({ computer_guid, compute_partition_list }, { caller }, { computers }) => {
      await computers.reportFormat(caller, {
        reference: computer_guid,
        slaposVersion: null,
        pythonVersion: null,
        osType: null,
        partitions: compute_partition_list.map(toFormattedPartition),
      });
      return success("Formatted");
    },
  ),

  "put.v0.compute_node_bang": method({ ...computer, message }, async (input, { caller }, { bangs }) => {
    await bangs.bangComputer(caller, input.computer_guid, bangMessage(input.message));
    return success("Bang handled");
  }),

  "put.v0.software_installation_reported_state": method(
    { ...computer, software_release_uri: text, reported_state: z.enum(["available", "building", "destroyed"]) },
    async ({ computer_guid, software_release_uri, reported_state }, { caller }, { installations }) => {
      const state = reported_state.toUpperCase() as "AVAILABLE" | "BUILDING" | "DESTROYED";
      return orIgnored(async () => {
        await installations.reportInstallation(caller, computer_guid, software_release_uri, state);
        return success("State reported");
      });
    },
  ),

  "put.v0.software_installation_error": method(
    { ...computer, software_release_uri: text, message },
    async (input, { caller }, { installations }) => {
      const { computer_guid, software_release_uri } = input;
      return orIgnored(async () => {
        await installations.reportInstallation(caller, computer_guid, software_release_uri, "ERROR", input.message);
        return success("Error reported");
      });
    },
  ),

  "put.v0.software_instance_reported_state": method(
    { ...instance, reported_state: z.enum(["started", "stopped", "destroyed"]) },
    async ({ instance_guid, reported_state }, call, { nodeViews, partitions }) =>
      orIgnored(async () => {
        const { instance: row } = await find(call, nodeViews, instance_guid);
        // What a shared instance is doing is its host's report.
        if (row.isShared) return success("Ignored");
        await partitions.reportPartition(call.caller, row.partitionKey ?? "", reported_state);
        return success(reported_state === "destroyed" ? "Destroyed" : "State reported");
      }),
  ),

  "put.v0.software_instance_error": method(
    { ...instance, message },
    async (input, call, { nodeViews, partitions, instances }) =>
      orIgnored(async () => {
        const { caller } = call;
        const { instance: row } = await find(call, nodeViews, input.instance_guid);
        const key = row.partitionKey ?? "";
        if (row.isShared) await instances.reportSharedError(caller, key, row.reference, input.message);
        else await partitions.reportPartition(caller, key, "error", input.message);
        return success("Error reported");
      }),
  ),

  "put.v0.software_instance_bang": method({ ...instance, message }, async (input, { caller }, { nodeViews, bangs }) => {
    const { instance: row } = allocated(await nodeViews.instanceOf(caller, input.instance_guid));
    await bangs.bangPartition(caller, row.partitionKey ?? "", bangMessage(input.message));
    return success("Bang handled");
  }),

  "put.v0.software_instance_title": method({ ...instance, title }, async (input, { caller }, { instances }) => {
    await instances.renameInstance(caller, input.instance_guid, input.title);
    return success("Renamed");
  }),

  "put.v0.software_instance_connection_parameter": method(
    { ...instance, connection_parameter_dict: z.record(text, z.unknown()) },
    async ({ instance_guid, connection_parameter_dict }, { caller }, { nodeViews, instances }) => {
      const publish = async () => {
        const { instance: row } = allocated(await nodeViews.instanceOf(caller, instance_guid));
        const parameters = toWireText(connection_parameter_dict);
        const shared = row.isShared ? row.reference : null;
        await instances.publishConnection(caller, row.partitionKey ?? "", parameters, shared);
      };
      await orElse(publish(), noInstance(instance_guid));
      return success("Updated");
    },
  ),

  "allDocs.v0.compute_node_software_installation_list": method(
    computer,
    async ({ computer_guid }, { caller }, { nodeViews }) => {
      const { installations } = await nodeViews.viewOf(caller, computer_guid);
      return {
        result_list: installations
          .filter((row) => row.requestedState === "AVAILABLE" || row.reportedState !== "DESTROYED")
          .map((row) => ({ software_release_uri: row.url, state: row.requestedState.toLowerCase() })),
      };
    },
  ),

  "allDocs.v0.compute_node_instance_list": method(computer, async ({ computer_guid }, { caller }, { nodeViews }) => {
    const { partitions } = await nodeViews.viewOf(caller, computer_guid);
    return {
      result_list: partitions.flatMap(({ hosted }) => {
        const { partition, instance: row } = hosted ?? {};
        if (!partition || !row) return [];
        return [
          {
            title: row.title,
            instance_guid: row.reference,
            state: row.requestedState.toLowerCase(),
            compute_partition_id: partition.reference,
            software_release_uri: row.releaseUrl,
          },
        ];
      }),
    };
  }),

  "allDocs.v0.instance_node_instance_list": method(instance, async ({ instance_guid }, { caller }, { nodeViews }) => ({
    result_list: (await orElse(nodeViews.sharedOf(caller, instance_guid), noInstance(instance_guid))).map((row) => ({
      title: row.title,
      instance_guid: row.reference,
      software_type: row.softwareType,
      state: row.requestedState.toLowerCase(),
      parameters: toWireParameters(row.parameters),
      compute_partition_id: partitionReference(row),
    })),
  })),

  "allDocs.v0.instance_tree_list": method({}, async (_input, { caller }, { nodeViews }) => ({
    result_list: (await nodeViews.trees(caller)).map((row) => ({ title: row.title })),
  })),

  // Upstream's one experimental method.
  "allDocs.WIP.compute_node_list": method({}, async (_input, { caller }, { computers }) => {
    const page = { limit: maxComputers, backward: false, after: null, before: null };
    const rows = (await computers.computers(caller, page)).slice(0, maxComputers);
    return { result_list: rows.map((row) => ({ computer_guid: row.reference })) };
  }),
};

const maxComputers = 1_000;

const prefix = "slapos.";

export function isJsonRpc(endpoint: string): boolean {
  return endpoint.startsWith(prefix);
}

export function methodOf(endpoint: string): Route | undefined {
  const name = endpoint.slice(prefix.length);
  const found = isJsonRpc(endpoint) && Object.hasOwn(methods, name) ? methods[name] : undefined;
  return found && (async (call, services) => ({ json: await found(call, services) }));
}

/** What a refusal looks like here: `{status, type, title}`, and 403 for what does not exist, as upstream has it. */
export function refuseJsonRpc(error: AppError): { status: number; json: object } {
  const status = error.code === "NOT_FOUND" ? 403 : error.httpStatus >= 500 ? 503 : error.httpStatus;
  return { status, json: { status, type: statusTypes[status] ?? "Error", title: error.message } };
}

const statusTypes: Record<number, string> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  408: "Request Timeout",
  409: "Conflict",
  413: "Request Entity Too Large",
  503: "Service Unavailable",
};

/** As the ERP5 master says "not yet": the request stands. */
const notReady = { message: "Software Instance Not Ready", status: 102, name: "SoftwareInstanceNotReady" };

function noInstance(reference: string): AppError {
  return new AppError("NOT_FOUND", `No software instance ${reference} found.`);
}

async function find({ caller }: SlapCall, nodeViews: NodeViewService, reference: string): Promise<PlacedInstance> {
  return orElse(nodeViews.instanceOf(caller, reference).then(allocated), noInstance(reference));
}

/** The same refusal in upstream's words. */
async function orElse<Found>(finding: Promise<Found>, notFound: AppError): Promise<Found> {
  return finding.catch((error) => {
    throw error instanceof AppError && error.code === "NOT_FOUND" ? notFound : error;
  });
}

/** A report about what does not exist (any more) is no error: who sends it could do nothing about it. */
async function orIgnored(report: () => Promise<object>): Promise<object> {
  try {
    return await report();
  } catch (error) {
    if (error instanceof AppError && error.code === "NOT_FOUND") return success("Ignored");
    throw error;
  }
}

/** The partition that X-SlapPartition names has to be one that the caller speaks for, with an instance that asks. */
async function checkRequester(call: SlapCall, nodeViews: NodeViewService): Promise<void> {
  const { computerReference, partitionReference } = call.partitionHeader ?? {};
  const refused = new AppError(
    "BAD_USER_INPUT",
    `No partition matching the authorization header: (${computerReference} / ${partitionReference})`,
  );
  await orElse(nodeViews.partitionOf(call.caller, partitionOfCall(call)), refused);
}

interface FormattedPartition {
  partition_id: string;
  ip_list: z.infer<typeof ip>[];
}

/** What is routed to a partition, not on it, has an interface that is called so (§3). */
function toFormattedPartition({ partition_id: reference, ip_list }: FormattedPartition) {
  if (!isPartitionReference(reference)) throw new AppError("BAD_USER_INPUT", "A partition has no usable id.");
  const addresses: InterfaceAddress[] = [];
  const routedAddresses: RoutedAddress[] = [];
  for (const one of ip_list) {
    const name = one["network-interface"] ?? reference;
    if (!name.startsWith("route_")) addresses.push([name, one["ip-address"]]);
    else
      routedAddresses.push([
        name,
        one["ip-address"],
        one["gateway-ip-address"] ?? "",
        one.netmask ?? "",
        one["network-address"] ?? "",
      ]);
  }
  return { reference, addresses, routedAddresses, capabilities: [] };
}

/** What waits for a partition is not there for those who ask about its place. */
function allocated(placed: PlacedInstance): PlacedInstance {
  if (placed.partition) return placed;
  throw new AppError("NOT_FOUND", `${placed.instance.title} has no partition yet.`);
}

function instanceDocument({ caller }: SlapCall, placed: PlacedInstance): object {
  const { instance: row, root, partition } = placed;
  return {
    title: row.title,
    instance_guid: row.reference,
    software_release_uri: row.releaseUrl,
    software_type: row.softwareType,
    state: row.requestedState.toLowerCase(),
    connection_parameters: mayReadConnection(caller) ? row.connectionParameters : {},
    parameters: toWireParameters(row.parameters),
    shared: row.isShared,
    root_instance_title: root?.title ?? row.title,
    // The addresses are the host's, and none of a shared instance's business.
    ip_list: (!row.isShared && partition?.addresses) || [],
    full_ip_list: (!row.isShared && partition?.routedAddresses) || [],
    sla_parameters: row.filter,
    computer_guid: partition?.computerReference ?? "",
    compute_partition_id: partition?.reference ?? "",
    processing_timestamp: row.isShared ? row.revision : (partition?.revision ?? 0),
    access_status_message: accessStatus(placed),
  };
}

function partitionReference(row: InstanceRow): string {
  return row.partitionKey?.split("/")[1] ?? "";
}

/** Connection parameters are text to text; whatever else is published travels as JSON. */
function toWireText(values: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}
