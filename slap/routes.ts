import { AppError } from "../common/errors.js";
import type { Caller } from "../common/identity.js";
import type { ReleaseService } from "../subgraphs/catalog/release/release.service.js";
import type { ComputerServices } from "../subgraphs/computer/context.js";
import { installationKey } from "../subgraphs/computer/installation/installation.service.js";
import type { NodeViewService } from "../subgraphs/computer/node-view.js";
import type { CertificateService } from "../subgraphs/identity/certificate/certificate.service.js";
import type { RegistrationService } from "../subgraphs/identity/registration/registration.service.js";
import type { BangService } from "../subgraphs/monitoring/bang/bang.service.js";
import { optional, partitionOfCall, required, type SlapCall } from "./call.js";
import {
  accessStatus,
  computerStatus,
  decodeFlag,
  decodeFormat,
  decodeState,
  decodeTextDictionary,
  encodeInstance,
  encodePartition,
  installationStatus,
  partitionKeyOf,
  statusOf,
} from "./codec.js";
import type { ComputerInformation } from "./computer-information.js";
import { hateoasPath } from "./hateoas.js";
import { checkUsageReport } from "./usage-report.js";
import { dumps, MarshalObject, MarshalTuple } from "./xml-marshaller.js";

export interface SlapServices extends ComputerServices {
  nodeViews: NodeViewService;
  bangs: Pick<BangService, "bangPartition" | "bangComputer">;
  releases: Pick<ReleaseService, "releaseUrlsOfProduct" | "releaseUrlsLike">;
  certificates: CertificateService;
  registrations: RegistrationService;
  computerInformation: ComputerInformation;
}

/** What a route answers with status 200: XML where the client parses it, else a word that it ignores. */
export type SlapAnswer = { xml: string | Buffer } | { text: string } | { json: object; status?: number };

export type Route = (call: SlapCall, services: SlapServices) => Promise<SlapAnswer>;

const done: SlapAnswer = { text: "done" };

const getFullComputerInformation: Route = async ({ caller, fields }, { computerInformation }) => ({
  xml: await computerInformation.read(caller, required(fields, "computer_id")),
});

/** The endpoints of slap-protocol.md §1.3 by method and name. Anything else is 404, never a page: see getHateoasUrl in §1.1. */
export const routes: Record<"GET" | "POST", Record<string, Route>> = {
  GET: {
    getFullComputerInformation,
    // What the client falls back to after a 404 of the one above.
    getComputerInformation: getFullComputerInformation,

    registerComputerPartition: async ({ caller, fields }, { nodeViews }) => {
      const key = partitionKeyOf(
        required(fields, "computer_reference"),
        required(fields, "computer_partition_reference"),
      );
      return { xml: dumps(encodePartition(await nodeViews.partitionOf(caller, key))) };
    },

    getComputerPartitionCertificate: async (call, { nodeViews, certificates }) => {
      const { instance } = await nodeViews.partitionOf(call.caller, partitionOfCall(call));
      if (!instance) throw new AppError("NOT_FOUND", "The partition holds no instance.");
      const { reference, project } = instance;
      const { certificate, key } = await certificates.instanceCertificate(call.caller, { reference, project });
      return { xml: dumps({ certificate, key }) };
    },

    // Plain text, and without a newline: the client takes the whole body for the address.
    getHateoasUrl: async ({ baseUrl }) => ({ text: `${baseUrl}/${hateoasPath}` }),

    getComputerStatus: async ({ caller, fields }, { computers }) => {
      const [computer] = await computers.computersByReference(caller, [required(fields, "computer_id")]);
      if (!computer) throw new AppError("NOT_FOUND", "There is no such computer.");
      return { xml: dumps(statusOf(computer.reference, computerStatus(computer), computer.livenessSince)) };
    },

    getComputerPartitionStatus: async (call, { nodeViews }) => {
      const hosted = await nodeViews.partitionOf(call.caller, partitionOfCall(call));
      const reference = hosted.instance?.reference ?? hosted.partition.key;
      return { xml: dumps(statusOf(reference, accessStatus(hosted), hosted.partition.stateSince)) };
    },

    getSoftwareInstallationStatus: async ({ caller, fields }, { installations }) => {
      const url = required(fields, "url");
      const key = installationKey(required(fields, "computer_id"), url);
      const [row] = await installations.installationsByKey(caller, [key]);
      if (!row) throw new AppError("NOT_FOUND", "The computer was not asked to install that.");
      return { xml: dumps(statusOf(url, installationStatus(row), row.reportedSince)) };
    },

    getHostingSubscriptionIpList: async (call, { nodeViews }) => ({
      xml: dumps(
        (await nodeViews.addressesOfTree(call.caller, partitionOfCall(call))).map((one) => new MarshalTuple(one)),
      ),
    }),

    getSoftwareReleaseListFromSoftwareProduct: async ({ caller, fields }, { releases }) => {
      const product = optional(fields, "software_product_reference");
      const url = optional(fields, "software_release_url");
      if ((product === null) === (url === null)) {
        throw new AppError("BAD_USER_INPUT", "Give one of software_product_reference and software_release_url.");
      }
      return {
        xml: dumps(
          product === null
            ? await releases.releaseUrlsLike(caller, url ?? "")
            : await releases.releaseUrlsOfProduct(caller, product),
        ),
      };
    },
  },

  POST: {
    loadComputerConfigurationFromXML: async ({ caller, fields }, { computers }) => {
      await computers.reportFormat(caller, decodeFormat(required(fields, "xml")));
      return done;
    },

    supplySupply: async ({ caller, fields }, { installations }) => {
      const url = required(fields, "url");
      const computer = required(fields, "computer_id");
      const state = optional(fields, "state") ?? "available";
      if (state === "available") await installations.supplySoftware(caller, computer, url);
      else if (state === "destroyed") await installations.withdrawSoftware(caller, computer, url);
      else throw new AppError("BAD_USER_INPUT", "The state of a supply is available or destroyed.");
      return done;
    },

    buildingSoftwareRelease: async ({ caller, fields }, { installations }) => {
      await installations.reportInstallation(
        caller,
        required(fields, "computer_id"),
        required(fields, "url"),
        "BUILDING",
      );
      return done;
    },

    availableSoftwareRelease: async ({ caller, fields }, { installations }) => {
      await installations.reportInstallation(
        caller,
        required(fields, "computer_id"),
        required(fields, "url"),
        "AVAILABLE",
      );
      return done;
    },

    destroyedSoftwareRelease: async ({ caller, fields }, { installations }) => {
      await installations.reportInstallation(
        caller,
        required(fields, "computer_id"),
        required(fields, "url"),
        "DESTROYED",
      );
      return done;
    },

    softwareReleaseError: async ({ caller, fields }, { installations }) => {
      const errorLog = fields.get("error_log") ?? "";
      await installations.reportInstallation(
        caller,
        required(fields, "computer_id"),
        required(fields, "url"),
        "ERROR",
        withoutControlCharacters(errorLog),
      );
      return done;
    },

    requestComputerPartition: requestPartition,

    setComputerPartitionConnectionXml: async (call, { instances }) => {
      const parameters = decodeTextDictionary(optional(call.fields, "connection_xml"), "connection_xml");
      const shared = optional(call.fields, "slave_reference");
      await instances.publishConnection(call.caller, partitionOfCall(call), parameters, shared);
      return done;
    },

    startedComputerPartition: async (call, { partitions }) => {
      await partitions.reportPartition(call.caller, partitionOfCall(call), "started");
      return done;
    },

    stoppedComputerPartition: async (call, { partitions }) => {
      await partitions.reportPartition(call.caller, partitionOfCall(call), "stopped");
      return done;
    },

    destroyedComputerPartition: async (call, { partitions }) => {
      await partitions.reportPartition(call.caller, partitionOfCall(call), "destroyed");
      return done;
    },

    softwareInstanceError: async (call, { partitions, instances }) => {
      const message = withoutControlCharacters(call.fields.get("error_log") ?? "");
      const shared = optional(call.fields, "slave_reference");
      if (shared === null) await partitions.reportPartition(call.caller, partitionOfCall(call), "error", message);
      else await instances.reportSharedError(call.caller, partitionOfCall(call), shared, message);
      return done;
    },

    softwareInstanceBang: async (call, { bangs }) => {
      try {
        await bangs.bangPartition(call.caller, partitionOfCall(call), bangMessage(call.fields.get("message") ?? ""));
      } catch (error) {
        // The instance went while its promise failed: there is nothing left to process, which the node cannot help.
        if (!(error instanceof AppError && error.code === "STATE_CONFLICT")) throw error;
      }
      return done;
    },

    computerBang: async ({ caller, fields }, { bangs }) => {
      await bangs.bangComputer(caller, required(fields, "computer_id"), bangMessage(fields.get("message") ?? ""));
      return { xml: dumps("") };
    },

    softwareInstanceRename: async (call, { instances }) => {
      const shared = optional(call.fields, "slave_reference");
      await instances.renameInPartition(call.caller, partitionOfCall(call), shared, required(call.fields, "new_name"));
      return done;
    },

    useComputer: async ({ caller, fields }, { usage }) => {
      const tioxml = checkUsageReport(fields.get("use_string") ?? "");
      await usage.reportUsage(caller, required(fields, "computer_id"), tioxml);
      return done;
    },

    requestComputer: async ({ caller, fields }, { computers }) => {
      const title = required(fields, "computer_title");
      const { reference } = await computers.requestComputer(caller, title, optional(fields, "project_reference"));
      return { xml: dumps(new MarshalObject("Computer", [reference], { _computer_id: reference })) };
    },

    generateComputerCertificate: async ({ caller, fields }, services) => {
      const computer = await computerOf(caller, required(fields, "computer_id"), services);
      const { certificate, key } = await services.certificates.createComputerCertificate(caller, computer);
      return { xml: dumps({ certificate, key }) };
    },

    revokeComputerCertificate: async ({ caller, fields }, services) => {
      const computer = await computerOf(caller, required(fields, "computer_id"), services);
      await services.certificates.revokeComputerCertificate(caller, computer);
      return done;
    },

    // The tree is known from the requests themselves, as on the ERP5 master.
    updateComputerPartitionRelatedInstanceList: async (call, { nodeViews }) => {
      await nodeViews.partitionOf(call.caller, partitionOfCall(call));
      return done;
    },
  },
};

/**
 * A person's request makes a root, a partition's a child. 408 tells the client "accepted, not there yet": it waits for a
 * partition, or for the end of the instance that had the name before.
 */
async function requestPartition(call: SlapCall, { instances }: SlapServices): Promise<SlapAnswer> {
  const { caller, fields, partitionHeader } = call;
  const isOfPartition = optional(fields, "computer_partition_id") !== null || partitionHeader !== null;
  const state = decodeState(optional(fields, "state"));
  try {
    const { instance, partition } = await instances.requestPlacement(caller, {
      title: required(fields, "partition_reference"),
      releaseUrl: required(fields, "software_release"),
      softwareType: optional(fields, "software_type") ?? "default",
      parameters: decodeTextDictionary(optional(fields, "partition_parameter_xml"), "partition_parameter_xml"),
      filter: decodeTextDictionary(optional(fields, "filter_xml"), "filter_xml"),
      // As on the ERP5 master, a request without a state wants the instance started.
      requestedState: state ?? "STARTED",
      project: optional(fields, "project_reference"),
      requesterPartitionKey: isOfPartition ? partitionOfCall(call) : null,
      isShared: decodeFlag(optional(fields, "shared_xml")),
    });
    if (partition) return { xml: dumps(encodeInstance(instance, partition)) };
  } catch (error) {
    const waits =
      error instanceof AppError &&
      (error.code === "STATE_CONFLICT" || (error.code === "NOT_FOUND" && state === "DESTROYED"));
    if (!waits) throw error;
    throw new AppError("NOT_READY", error.message, { cause: error });
  }
  throw new AppError("NOT_READY", "The instance waits for a partition. Its pendingReasons in GraphQL say why.");
}

/** What the computer subgraph vouches for: the computer exists, in this project, and the caller sees it. */
export async function computerOf(caller: Caller, reference: string, { computers }: SlapServices) {
  const [row] = await computers.computersByReference(caller, [reference]);
  if (!row) throw new AppError("NOT_FOUND", "There is no such computer.");
  return { reference: row.reference, project: row.project };
}

const maxBangMessageLength = 5_000;

/** Whatever a node says with its bang, it is heard. */
export function bangMessage(text: string): string {
  return withoutControlCharacters(text).trim().slice(0, maxBangMessageLength) || "bang";
}

/** Control characters are illegal in the XML that these texts go back out in (§1.4). */
export function withoutControlCharacters(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is removed here.
  return text.replaceAll(/[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g, "");
}
