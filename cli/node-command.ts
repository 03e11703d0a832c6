import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { Command } from "commander";
import { ConfigError } from "../common/config.js";
import type { Api } from "./api.js";
import { localNodeFiles, type NodeConfiguration, slaposConfiguration } from "./node-config.js";

interface NodeOptions {
  create?: boolean;
  folder?: string;
  tls?: string;
  certificates: string;
  softwareRoot: string;
  instanceRoot: string;
  partitions: string;
  interface: string;
  ipv4Network: string;
}

const maxPartitions = 10_000;

/** `slapgraph node config`: what to write on a node's machine so that it is this master's. */
export function addNodeCommand(program: Command, api: () => Api): void {
  program
    .command("node")
    .description("What nodes need.")
    .command("config <computer>")
    .description(
      "Print a ready slapos.cfg with a new credential for the node of a computer. With --folder, write all that a node needs which runs there as the present user.",
    )
    .option("--create", "create the computer if there is none")
    .option(
      "--folder <folder>",
      "write the files of a node that runs as the present user; a short path, for its sockets",
    )
    .option("--tls <url>", "identify the node by certificate at this https address (SLAPGRAPH_SLAP_TLS_PORT's)")
    .option("--certificates <folder>", "with --tls: where the certificate and key are written", "/etc/opt/slapos/ssl")
    .option("--software-root <folder>", "where releases are built", "/opt/slapgrid")
    .option("--instance-root <folder>", "where instances live", "/srv/slapgrid")
    .option("--partitions <n>", "how many partitions", "10")
    .option("--interface <name>", "the primary network interface", "lo")
    .option("--ipv4-network <network>", "for the partitions' local addresses", "10.0.0.0/16")
    .action(async (computer: string, options: NodeOptions) => configureNode(api(), computer, options));
}

async function configureNode(api: Api, computer: string, options: NodeOptions): Promise<void> {
  const partitionCount = Number(options.partitions);
  if (!Number.isInteger(partitionCount) || partitionCount < 1 || partitionCount > maxPartitions)
    throw new ConfigError(`--partitions takes 1 to ${maxPartitions}.`);
  const credential = await credentialOf(api, computer, options.create ?? false);
  const folder = options.folder === undefined ? null : path.resolve(options.folder);
  const node: NodeConfiguration = {
    computerReference: computer,
    masterUrl: credential.masterUrl,
    softwareRoot: folder ? `${folder}/soft` : options.softwareRoot,
    instanceRoot: folder ? `${folder}/inst` : options.instanceRoot,
    partitionCount,
    interfaceName: options.interface,
    ipv4Network: options.ipv4Network,
  };
  if (options.tls !== undefined) {
    const place = folder ? `${folder}/ssl` : path.resolve(options.certificates);
    node.certificate = await takeCertificate(credential.masterUrl, computer, place);
    node.masterUrl = options.tls;
    if (credential.tokenId) await revokeToken(api, credential.tokenId);
    if (!folder) process.stderr.write(`Certificate and key are in ${place}: the node needs them at the same place.\n`);
  }
  if (folder === null) return void process.stdout.write(slaposConfiguration(node));
  const clientMasterUrl = credential.masterUrl.replace(/\/k\/[^/]*\/$/, `/k/${api.token}/`);
  writeLocalNode(node, folder, clientMasterUrl);
}

interface NodeCredential {
  masterUrl: string;
  /** Of a token that was made just for this. */
  tokenId?: string;
}

/** A new token for the node, in its master_url. The computer has to exist, unless it may be created. */
async function credentialOf(api: Api, computer: string, mayCreate: boolean): Promise<NodeCredential> {
  const { computer: present } = await api.query<{ computer: { reference: string } | null }>("computer", {
    reference: computer,
  });
  if (!present && !mayCreate) throw new ConfigError(`NOT_FOUND: there is no computer ${computer}. --create makes it.`);
  if (!present) {
    return api.mutate<NodeCredential>("createComputer", { reference: computer });
  }
  const { masterUrl, token } = await api.mutate<{ masterUrl: string; token: { tokenId: string } }>("createToken", {
    computerReference: computer,
  });
  return { masterUrl, tokenId: token.tokenId };
}

/** The certificate stands in for it: what nobody uses nobody should hold. */
async function revokeToken(api: Api, id: string): Promise<void> {
  await api.mutate("revokeToken", { id });
}

/** The computer's certificate, made over SLAP with its token and written where only its node reads it. */
async function takeCertificate(masterUrl: string, computer: string, folder: string) {
  const response = await fetch(`${masterUrl}slapos.post.v0.compute_node_certificate`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ computer_guid: computer }),
  });
  const answer = (await response.json()) as { certificate?: string; key?: string; title?: string };
  if (!answer.certificate || !answer.key) throw new ConfigError(answer.title ?? "The master made no certificate.");
  const files = {
    certificateFile: `${folder}/certificate`,
    keyFile: `${folder}/key`,
    repository: `${folder}/partition_pki`,
  };
  mkdirSync(files.repository, { recursive: true, mode: 0o711 });
  writeFileSync(files.certificateFile, answer.certificate, { mode: 0o600 });
  writeFileSync(files.keyFile, answer.key, { mode: 0o600 });
  return files;
}

/** The node's files, and a client.cfg with the present caller's token for `slapos supply` and `slapos request`. */
function writeLocalNode(node: NodeConfiguration, folder: string, clientMasterUrl: string): void {
  for (const name of ["soft", "inst", "run"]) mkdirSync(path.join(folder, name), { recursive: true });
  chmodSync(folder, 0o755);
  const files = localNodeFiles(node, folder, os.userInfo().username);
  files.set("client.cfg", `[slapos]\nmaster_url = ${clientMasterUrl}\n`);
  for (const [name, content] of files) writeFileSync(path.join(folder, name), content, { mode: 0o600 });
  const cfg = path.join(folder, "slapos.cfg");
  const client = path.join(folder, "client.cfg");
  process.stdout.write(`${cfg} is ready. Next, with slapos.core installed, the release's url as R, and as a user other than root:

  slapos supply $R ${node.computerReference} --cfg ${client}; slapos request web $R --cfg ${client}
  for step in 'format --now' software instance; do slapos node $step --cfg ${cfg}; done
`);
}
