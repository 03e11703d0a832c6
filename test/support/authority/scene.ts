import { createHash } from "node:crypto";
import { toGlobalId } from "../../../common/global-id.js";
import { dumps } from "../../../slap/xml-marshaller.js";
import type { RunningSystem } from "../running-system.js";
import { createSigningKey } from "../signing-key.js";
import { waitFor } from "../wait-for.js";
import type { KeyPair } from "./drive.js";

/** In the order of the letters of a row: each has a token, but for the first. */
export const callers = [
  "anonymous",
  "stranger",
  "viewer",
  "user",
  "owner",
  "node",
  "otherNode",
  "instance",
  "administrator",
] as const;
type CallerName = (typeof callers)[number];

/** What rows speak of as `$name`. Of each there is one that is there and one that is not. */
export type Names = Record<(typeof names)[number], string>;

const names = [
  "project",
  "person",
  "formerMember",
  "computer",
  "spareComputer",
  "otherComputer",
  "partition",
  "sparePartition",
  "freePartition",
  "lastPartition",
  "instance",
  "child",
  "ownersInstance",
  "doomed",
  "product",
  "release",
  "oldRelease",
  "token",
  "registrationToken",
  "certificate",
  "computerCertificate",
  "bang",
  "computerBang",
  "pem",
  "trustedCertificate",
  "distrustedCertificate",
  "artifact",
  "entry",
  "entryKey",
  "tree",
  "usage",
  "secret",
  "installation",
  "start",
  "auditRecord",
  "new",
] as const;

export interface Scene {
  /** The certificate of the instance, as its node fetches it. */
  instancePair: KeyPair;
  tokens: Record<CallerName, string | null>;
  present: Names;
  /** The same for things that do not exist: what a caller may not see has to look like this. */
  absent: Names;
}

const releaseUrl = "http://release.example/thing.cfg";
const oldReleaseUrl = "http://release.example/old-thing.cfg";
const usage = "<journal><transaction type='ADVERTISED'><title>Usage</title></transaction></journal>";
const partitionCount = 200;

/**
 * One of everything in the project `main`: COMP-A, whose partition holds an instance of the user with a child; COMP-B, whose
 * node is the other node; and another project, whose OWNER is the stranger.
 */
export async function setScene(system: RunningSystem): Promise<Scene> {
  const run = async <Payload>(field: string, selection: string, token?: string): Promise<Payload> => {
    const data = await system.graphql<Record<string, Payload & { userErrors: unknown[] }>>(
      `mutation { ${field} { ${selection} userErrors { code message } } }`,
      {},
      token,
    );
    const payload = Object.values(data)[0] as Payload & { userErrors: unknown[] };
    if (payload.userErrors.length > 0) throw new Error(`${field}: ${JSON.stringify(payload.userErrors)}`);
    return payload;
  };
  const post = async (token: string, endpoint: string, fields: Record<string, string>) => {
    const response = await fetch(`${system.slapUrl}/k/${token}/${endpoint}`, {
      method: "POST",
      body: new URLSearchParams(fields),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${endpoint}: ${response.status} ${text}`);
    return text;
  };
  const tokenOf = async (person: string, role: string, project: string) => {
    await run(`createPerson(input: { subject: "${person}" })`, "person { subject }");
    const input = `person: "${person}", role: ${role}, project: "${project}"`;
    return (await run<{ secret: string }>(`createToken(input: { ${input} })`, "secret")).secret;
  };
  const computer = async (reference: string) =>
    (await run<{ credential: string }>(`createComputer(input: { reference: "${reference}" })`, "credential"))
      .credential;
  const request = async (title: string, token: string) => {
    const input = `title: "${title}", releaseUrl: "${releaseUrl}", computerReference: "COMP-A"`;
    const payload = await run<{ instance: { reference: string; partition: { key: string } } }>(
      `requestInstance(input: { ${input} })`,
      "instance { reference partition { key } }",
      token,
    );
    return payload.instance;
  };

  await run('createProject(input: { name: "theirs" })', "project { name }");
  const stranger = await tokenOf("eve", "OWNER", "theirs");
  const viewer = await tokenOf("vera", "VIEWER", "main");
  const user = await tokenOf("uma", "USER", "main");
  const owner = await tokenOf("olga", "OWNER", "main");
  await tokenOf("pat", "VIEWER", "main");
  await tokenOf("fred", "VIEWER", "main");
  const node = await computer("COMP-A");
  const otherNode = await computer("COMP-B");
  const spare = await computer("COMP-SPARE");
  for (const [reference, token, count] of [
    ["COMP-A", node, partitionCount],
    ["COMP-B", otherNode, 1],
  ] as const) {
    const partition = (number: number) => ({ reference: `slappart${number}`, tap: { name: "lo" }, address_list: [] });
    const partition_list = Array.from({ length: count }, (_, number) => partition(number));
    await post(token, "loadComputerConfigurationFromXML", { xml: dumps({ reference, partition_list }) });
  }
  await run('createSoftwareProduct(input: { name: "thing" })', "softwareProduct { id }");
  for (const url of [releaseUrl, oldReleaseUrl])
    await run(`publishSoftwareRelease(input: { productName: "thing", url: "${url}" })`, "softwareRelease { url }");
  await run(
    `supplySoftware(input: { computerReference: "COMP-A", releaseUrl: "${releaseUrl}" })`,
    "installation { id }",
  );
  const mine = await request("umas", user);
  const owners = await request("olgas", owner);
  const doomed = await request("doomed", user);
  const [, partitionId = ""] = mine.partition.key.split("/");
  const place = { computer_id: "COMP-A", computer_partition_id: partitionId };
  await post(node, "requestComputerPartition", {
    ...place,
    software_release: releaseUrl,
    software_type: "default",
    partition_reference: "kid",
    partition_parameter_xml: dumps({}),
    filter_xml: dumps({ computer_guid: "COMP-A" }),
    state: dumps(null),
    shared_xml: dumps(false),
  });
  await post(node, "setComputerPartitionConnectionXml", { ...place, connection_xml: dumps({ url: "umas-secret" }) });
  await post(node, "startedComputerPartition", place);
  await post(node, "useComputer", { computer_id: "COMP-A", use_string: usage });
  const { children } = (
    await system.graphql<{ instance: { children: { reference: string }[] } }>(
      `{ instance(reference: "${mine.reference}") { children { reference } } }`,
    )
  ).instance;
  const bang = await run<{ bang: { id: string } }>(
    `bangInstance(input: { reference: "${mine.reference}", message: "again" })`,
    "bang { id }",
  );
  const computerBang = await run<{ bang: { id: string } }>(
    'bangComputer(input: { reference: "COMP-A", message: "all again" })',
    "bang { id }",
  );
  const registration = await run<{ registrationToken: { id: string } }>(
    "createRegistrationToken(input: {})",
    "registrationToken { id }",
  );
  const instancePair = await pairOf(system, node, "get.v0.software_instance_certificate", {
    instance_guid: mine.reference,
  });
  await post(spare, "generateComputerCertificate", { computer_id: "COMP-SPARE" });
  const bytes = Buffer.from("an artifact");
  const sha512 = createHash("sha512").update(bytes).digest("hex");
  await fetch(`${system.shacacheUrl}/k/${owner}/shacache`, { method: "POST", body: bytes });
  const builder = await createSigningKey("builder");
  const trust = async (certificate: string) => {
    const input = `trustCertificate(input: { certificate: ${JSON.stringify(certificate)} })`;
    const payload = await run<{ trustedCertificate: { id: string } }>(input, "trustedCertificate { id }");
    return payload.trustedCertificate.id;
  };
  const trustedCertificate = await trust(builder.certificate);
  const distrustedCertificate = await trust((await createSigningKey("another")).certificate);
  const pair = builder.entry({ sha512, software_url: releaseUrl });
  // Two nodes that run different bytes of the release.
  for (const [token, built] of [
    [node, bytes],
    [otherNode, Buffer.from("built again")],
  ] as const) {
    const digest = createHash("sha512").update(built).digest("hex");
    const metadata = {
      sha512: digest,
      software_url: releaseUrl,
      multiarch: "x86_64-linux-gnu",
      os: ["debian", "12", ""],
    };
    const key = createHash("md5").update(releaseUrl).digest("hex");
    const body = JSON.stringify([JSON.stringify(metadata), ""]);
    await fetch(`${system.shacacheUrl}/k/${token}/shadir/${key}`, { method: "PUT", body });
  }
  await fetch(`${system.shacacheUrl}/k/${owner}/shadir/entry-key`, { method: "PUT", body: pair });
  const { artifact } = await system.graphql<{
    artifact: { entries: { edges: { node: { id: string; key: string } }[] } };
  }>(`{ artifact(sha512: "${sha512}") { entries(first: 10) { edges { node { id key } } } } }`);
  // A node's entry points to the same bytes.
  const signedEntry = artifact.entries.edges.find(({ node: entry }) => entry.key === "entry-key")?.node.id ?? "";
  const issued = await waitFor(
    async () => {
      const list = "tokens(first: 100) { edges { node { id subject } } }";
      const certificates = "certificates(first: 100) { edges { node { id subject } } }";
      const found = await system.graphql<Record<string, { edges: { node: { id: string; subject: string } }[] }>>(
        `{ ${list} ${certificates} }`,
      );
      const idOf = (field: string, subject: string) =>
        found[field]?.edges.find((edge) => edge.node.subject === subject)?.node.id ?? "";
      return {
        token: idOf("tokens", "pat"),
        instance: idOf("certificates", mine.reference),
        computer: idOf("certificates", "COMP-SPARE"),
        // A computer is known to identity, for further tokens, once its first one has arrived there.
        computerToken: idOf("tokens", "COMP-B"),
      };
    },
    { until: (ids) => Object.values(ids).every((id) => id !== ""), what: "tokens and certificates" },
  );

  const audit = await system.graphql<{ auditRecords: { edges: [{ node: { id: string } }] } }>(
    '{ auditRecords(first: 1, filter: { project: "main" }) { edges { node { id } } } }',
  );

  const present: Names = {
    project: "main",
    person: "uma",
    formerMember: "fred",
    computer: "COMP-A",
    spareComputer: "COMP-SPARE",
    otherComputer: "COMP-B",
    partition: mine.partition.key,
    sparePartition: `COMP-A/slappart${partitionCount - 1}`,
    // Where keys are sorted as text.
    freePartition: "COMP-A/slappart100",
    lastPartition: "COMP-A/slappart99",
    instance: mine.reference,
    child: children[0]?.reference ?? "",
    ownersInstance: owners.reference,
    doomed: doomed.reference,
    product: "thing",
    release: releaseUrl,
    oldRelease: oldReleaseUrl,
    token: issued.token,
    registrationToken: registration.registrationToken.id,
    certificate: issued.instance,
    computerCertificate: issued.computer,
    bang: bang.bang.id,
    computerBang: computerBang.bang.id,
    pem: builder.certificate,
    trustedCertificate,
    distrustedCertificate,
    artifact: sha512,
    entry: signedEntry,
    entryKey: "entry-key",
    tree: "umas",
    usage,
    secret: "umas-secret",
    installation: toGlobalId("SoftwareInstallation", `COMP-A ${releaseUrl}`),
    start: Buffer.from("event:0").toString("base64url"),
    auditRecord: audit.auditRecords.edges[0].node.id,
    new: "new",
  };
  const absent: Names = {
    project: "nain",
    person: "umo",
    formerMember: "ferd",
    computer: "COMP-Z",
    spareComputer: "COMP-SPORE",
    otherComputer: "COMP-Y",
    partition: "COMP-Z/slappart0",
    sparePartition: "COMP-Z/slappart199",
    freePartition: "COMP-Z/slappart100",
    lastPartition: "COMP-Z/slappart99",
    instance: "SOFTINST-9001",
    child: "SOFTINST-9002",
    ownersInstance: "SOFTINST-9003",
    doomed: "SOFTINST-9004",
    product: "thong",
    release: "http://release.example/none.cfg",
    oldRelease: "http://release.example/old-none.cfg",
    token: toGlobalId("Token", "00000000-0000-4000-8000-000000000000"),
    registrationToken: toGlobalId("RegistrationToken", "00000000-0000-4000-8000-000000000000"),
    certificate: toGlobalId("Certificate", "certificate:00"),
    computerCertificate: toGlobalId("Certificate", "certificate:01"),
    bang: toGlobalId("Bang", "000000000000-00000000"),
    computerBang: toGlobalId("Bang", "000000000000-00000001"),
    pem: builder.certificate,
    trustedCertificate: toGlobalId("TrustedCertificate", `main ${"0".repeat(64)}`),
    distrustedCertificate: toGlobalId("TrustedCertificate", `main ${"1".repeat(64)}`),
    artifact: "0".repeat(128),
    entry: toGlobalId("DirectoryEntry", `${"0".repeat(128)} ${"0".repeat(64)}`),
    entryKey: "no-key",
    tree: "omas",
    usage,
    secret: "no-secret",
    installation: toGlobalId("SoftwareInstallation", "COMP-Z http://release.example/none.cfg"),
    start: present.start,
    auditRecord: toGlobalId("AuditRecord", "0000000000000000"),
    new: "new",
  };
  const instance = await run<{ credential: string }>(
    `createInstanceToken(input: { reference: "${mine.reference}" })`,
    "credential",
    user,
  );
  const tokens = {
    anonymous: null,
    stranger,
    viewer,
    user,
    owner,
    node,
    otherNode,
    instance: instance.credential,
    administrator: system.adminToken,
  };
  return { tokens, present, absent, instancePair };
}

/** A certificate with its key, of the method that makes it. */
export async function pairOf(system: RunningSystem, token: string, method: string, input: object): Promise<KeyPair> {
  const response = await fetch(`${system.slapUrl}/k/${token}/slapos.${method}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(input),
  });
  const pair = (await response.json()) as KeyPair;
  if (!pair.certificate) throw new Error(`${method}: ${response.status} ${JSON.stringify(pair)}`);
  return pair;
}
