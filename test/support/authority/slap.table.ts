import { dumps } from "../../../slap/xml-marshaller.js";
import type { Names } from "./scene.js";

/**
 * Who may call each endpoint of the SLAP door: the letters of graphql.table.ts. Whoever a computer is not shown to at all
 * gets 404, or what a report about nothing gets.
 */
export type SlapRow = [
  who: string,
  fields: (names: Names) => Record<string, string>,
  shows?: keyof Names | undefined,
  /** Another row, which the administrator calls first each time: what this one ends has to be there. */
  after?: string,
];

const ofComputer = (names: Names) => ({ computer_id: names.computer });
const ofRelease = (names: Names) => ({ computer_id: names.computer, url: names.release });
const place = (key: string) => {
  const [computer = "", partition = ""] = key.split("/");
  return { computer_id: computer, computer_partition_id: partition };
};
const ofPartition = (names: Names) => place(names.partition);

//  a-------- anonymous
//  |s------- stranger: an OWNER of another project
//  ||v------ VIEWER
//  |||u----- USER, whose instance it is
//  ||||o---- OWNER
//  |||||n--- the computer's node
//  ||||||m-- another node of the project
//  |||||||i- the instance itself
//  ||||||||A administrator

export const endpoints: Record<string, SlapRow> = {
  "GET getComputerInformation": ["!....y.yy", ofComputer],
  "GET getComputerPartitionCertificate": ["!....y.yy", ofPartition],
  "GET getComputerPartitionStatus": ["!....y.yy", ofPartition],
  "GET getComputerStatus": ["!.yyyy..y", ofComputer],
  "GET getFullComputerInformation": ["!....y.yy", ofComputer],
  "GET getHateoasUrl": ["!yyyyyyyy", () => ({})],
  "GET getHostingSubscriptionIpList": ["!....y.yy", ofPartition],
  "GET getSoftwareInstallationStatus": ["!.yyyy..y", (names) => ({ computer_id: names.computer, url: names.release })],
  "GET getSoftwareReleaseListFromSoftwareProduct": [
    "!.yyyyyyy",
    (names) => ({ software_product_reference: names.product }),
    "release",
  ],
  "GET registerComputerPartition": [
    "!....y.yy",
    (names) => {
      const { computer_id, computer_partition_id } = ofPartition(names);
      return { computer_reference: computer_id, computer_partition_reference: computer_partition_id };
    },
  ],
  "POST availableSoftwareRelease": ["!....y..y", ofRelease],
  "POST buildingSoftwareRelease": ["!....y..y", ofRelease],
  "POST computerBang": ["!.ffyy..y", (names) => ({ ...ofComputer(names), message: "x" })],
  "POST destroyedComputerPartition": ["!....y..y", (names) => place(names.sparePartition)],
  "POST destroyedSoftwareRelease": ["!....y..y", ofRelease],
  "POST generateComputerCertificate": ["!.ffyy..y", ofComputer],
  // The other node's: a format of COMP-A would take its partitions away.
  "POST loadComputerConfigurationFromXML": [
    "!.....y.y",
    (names) => ({ xml: dumps({ reference: names.otherComputer, partition_list: [] }) }),
  ],
  "POST requestComputer": ["!.ffyfffy", (names) => ({ computer_title: "a title", project_reference: names.project })],
  "POST requestComputerPartition": [
    "!.fyyfffy",
    (names) => ({
      software_release: "http://release.example/thing.cfg",
      software_type: "default",
      partition_reference: "root",
      project_reference: names.project,
      filter_xml: dumps({ computer_guid: "nowhere" }),
    }),
  ],
  "POST requestComputerPartition (of a partition)": [
    "!....y.yy",
    (names) => ({
      ...ofPartition(names),
      software_release: "http://release.example/thing.cfg",
      software_type: "default",
      partition_reference: "kid",
      filter_xml: dumps({ computer_guid: "COMP-A" }),
    }),
  ],
  "POST revokeComputerCertificate": ["!.ffyy..y", ofComputer, undefined, "POST generateComputerCertificate"],
  "POST setComputerPartitionConnectionXml": [
    "!....y.yy",
    (names) => ({ ...ofPartition(names), connection_xml: dumps({ url: "umas-secret" }) }),
  ],
  "POST softwareInstanceBang": ["!.fyyy.yy", (names) => ({ ...ofPartition(names), message: "x" })],
  "POST softwareInstanceError": ["!....y.yy", (names) => ({ ...ofPartition(names), error_log: "x" })],
  "POST softwareInstanceRename": ["!....y.yy", (names) => ({ ...ofPartition(names), new_name: "umas" })],
  "POST softwareReleaseError": ["!....y..y", (names) => ({ ...ofRelease(names), error_log: "x" })],
  "POST startedComputerPartition": ["!....y.yy", ofPartition],
  "POST stoppedComputerPartition": ["!....y.yy", ofPartition],
  "POST supplySupply": [
    "!.ffyf..y",
    (names) => ({ computer_id: names.computer, url: names.release, state: "available" }),
  ],
  "POST updateComputerPartitionRelatedInstanceList": ["!....y.yy", ofPartition],
  "POST useComputer": ["!....y..y", (names) => ({ ...ofComputer(names), use_string: names.usage })],
};

/** JSON-RPC: its refusals are upstream's, with our code in `X-Error-Code`. What is shown is a name or a text. */
export type MethodRow = [who: string, input: (names: Names) => object, shows?: string, after?: string];

const guid = (names: Names) => ({ computer_guid: names.computer });
const instanceGuid = (names: Names) => ({ instance_guid: names.instance });
const release = (names: Names) => ({ computer_guid: names.computer, software_release_uri: names.release });

export const methods: Record<string, MethodRow> = {
  "allDocs.WIP.compute_node_list": ["!.yyyy..y", () => ({}), "computer"],
  "allDocs.v0.compute_node_instance_list": ["!....y..y", guid],
  "allDocs.v0.compute_node_software_installation_list": ["!....y..y", guid],
  "allDocs.v0.instance_node_instance_list": ["!.yyyy.yy", instanceGuid],
  "allDocs.v0.instance_tree_list": ["!.yyyy.yy", () => ({}), "tree"],
  "get.v0.compute_node_status": ["!.yyyy..y", guid],
  "get.v0.compute_partition": [
    "!....y.yy",
    (names) => {
      const { computer_id, computer_partition_id } = ofPartition(names);
      return { computer_guid: computer_id, compute_partition_id: computer_partition_id };
    },
  ],
  "get.v0.hateoas_url": ["!yyyyyyyy", () => ({})],
  "get.v0.instance_tree": ["!.yyyy.yy", (names) => ({ title: names.tree })],
  "get.v0.software_instance": ["!.yyyy.yy", instanceGuid],
  "get.v0.software_instance_certificate": ["!....y.yy", instanceGuid],
  "post.v0.compute_node_certificate": ["!.ffyy..y", guid],
  // A report about what is not there is answered, and ignored.
  "post.v0.compute_node_usage": ["!....y..y", (names) => ({ ...guid(names), tioxml: names.usage }), "Usage reported"],
  "post.v0.software_installation": ["!.ffyf..y", release],
  "post.v0.software_instance": [
    "!yfyyfffy",
    () => ({
      title: "by method",
      software_release_uri: "http://release.example/thing.cfg",
      software_type: "default",
      sla_parameters: { computer_guid: "nowhere" },
    }),
  ],
  "put.v0.compute_node_bang": ["!.ffyy..y", (names) => ({ ...guid(names), message: "x" })],
  "put.v0.compute_node_format": [
    "!.....y.y",
    (names) => ({ computer_guid: names.otherComputer, compute_partition_list: [] }),
  ],
  "put.v0.software_installation_error": [
    "!....y..y",
    (names) => ({ ...release(names), message: "x" }),
    "Error reported",
  ],
  "put.v0.software_installation_reported_state": [
    "!....y..y",
    (names) => ({ ...release(names), reported_state: "available" }),
    "State reported",
  ],
  "put.v0.software_instance_bang": ["!.fyyy.yy", (names) => ({ ...instanceGuid(names), message: "x" })],
  "put.v0.software_instance_connection_parameter": [
    "!....y.yy",
    (names) => ({ ...instanceGuid(names), connection_parameter_dict: { url: "umas-secret" } }),
  ],
  "put.v0.software_instance_error": [
    "!....y.yy",
    (names) => ({ ...instanceGuid(names), message: "x" }),
    "Error reported",
  ],
  "put.v0.software_instance_reported_state": [
    "!....y.yy",
    (names) => ({ ...instanceGuid(names), reported_state: "started" }),
    "State reported",
  ],
  "put.v0.software_instance_title": ["!.fyyy.yy", (names) => ({ ...instanceGuid(names), title: "umas" })],
  "remove.v0.compute_node_certificate": ["!.ffyy..y", guid, "Certificate removed", "post.v0.compute_node_certificate"],
};

const search = (query: string) => `hateoas?mode=search&query=${encodeURIComponent(query)}`;
const tree = 'portal_type:"Instance Tree" AND validation_state:validated';
const node = 'portal_type:"Compute Node" AND validation_state:validated';

/** The hypermedia documents, and what shows that there is something in them. */
export const documents: Record<string, [who: string, target: (names: Names) => string, shows?: keyof Names]> = {
  root: ["!yyyyyyyy", () => "hateoas"],
  "search (trees)": ["!.yyyy.yy", () => search(tree), "tree"],
  "search (one tree)": ["!.yyyy.yy", (names) => search(`${tree} AND title:="${names.tree}"`), "instance"],
  "search (computers)": ["!.yyyy..y", () => search(node), "computer"],
  "search (one computer)": ["!.yyyy..y", (names) => search(`${node} AND reference:="${names.computer}"`), "computer"],
  "traverse (instance_tree)": [
    "!.yyyy.yy",
    (names) => `hateoas?mode=traverse&relative_url=instance_tree/${names.instance}`,
    "instance",
  ],
  "traverse (instance_tree, its connection parameters)": [
    "!..yyy.yy",
    (names) => `hateoas?mode=traverse&relative_url=instance_tree/${names.instance}`,
    "secret",
  ],
  "traverse (computer)": [
    "!.yyyy..y",
    (names) => `hateoas?mode=traverse&relative_url=computer/${names.computer}`,
    "computer",
  ],
  "computer_module/Base_getComputerToken": ["!yffyfffy", () => "hateoas/computer_module/Base_getComputerToken"],
};
