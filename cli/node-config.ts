/** What a node's slapos.cfg says of its master and of itself. */
export interface NodeConfiguration {
  computerReference: string;
  masterUrl: string;
  softwareRoot: string;
  instanceRoot: string;
  partitionCount: number;
  interfaceName: string;
  ipv4Network: string;
  /** Where the node's certificate is, when its master_url is https. */
  certificate?: { certificateFile: string; keyFile: string; repository: string };
}

/** A slapos.cfg for a machine of its own, whose node runs as root as upstream's packages set it up. */
export function slaposConfiguration(node: NodeConfiguration): string {
  return `[slapos]
computer_id = ${node.computerReference}
master_url = ${node.masterUrl}
${identity(node)}software_root = ${node.softwareRoot}
instance_root = ${node.instanceRoot}

[slapformat]
interface_name = ${node.interfaceName}
ipv4_local_network = ${node.ipv4Network}
partition_amount = ${node.partitionCount}
create_tap = false
partition_base_name = slappart
user_base_name = slapuser
tap_base_name = slaptap
computer_xml = /opt/slapos/slapos.xml
`;
}

/** The files of a node that runs as an ordinary user in a folder, touching neither users nor networks. */
export function localNodeFiles(node: NodeConfiguration, folder: string, user: string): Map<string, string> {
  const partitions = Array.from(
    { length: node.partitionCount },
    (_, number) => `
[partition_${number}]
address = 127.0.0.1/255.255.255.255 ::1/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
pathname = slappart${number}
user = ${user}
network_interface = slaptap${number}
`,
  );
  return new Map([
    [
      "slapos.cfg",
      `[slapos]
computer_id = ${node.computerReference}
master_url = ${node.masterUrl}
${identity(node)}software_root = ${node.softwareRoot}
instance_root = ${node.instanceRoot}
root_check = false
pidfile_software = ${folder}/run/software.pid
pidfile_instance = ${folder}/run/instance.pid
pidfile_report = ${folder}/run/report.pid
software_min_free_space = 1M
instance_min_free_space = 1M

[slapformat]
partition_amount = ${node.partitionCount}
alter_user = False
alter_network = False
create_tap = False
computer_xml = ${folder}/slapos.xml
input_definition_file = ${folder}/definition.cfg
interface_name = ${node.interfaceName}
ipv4_local_network = ${node.ipv4Network}
partition_base_name = slappart
user_base_name = slapuser
tap_base_name = slaptap
`,
    ],
    [
      "definition.cfg",
      `[computer]\naddress = 127.0.0.1/255.255.255.255\nsoftware_user = ${user}\n${partitions.join("")}`,
    ],
  ]);
}

function identity({ certificate }: NodeConfiguration): string {
  if (!certificate) return "";
  const { certificateFile, keyFile, repository } = certificate;
  return `cert_file = ${certificateFile}\nkey_file = ${keyFile}\ncertificate_repository_path = ${repository}\n`;
}
