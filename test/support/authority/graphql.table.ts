import type { Names } from "./scene.js";

/**
 * Who may, for each root field, each subscription, and each field that leads to another visibility.
 *
 *   y  sees it, or may do it
 *   f  sees that it is there but may not do it: FORBIDDEN
 *   .  does not exist for this caller: null, NOT_FOUND, not in the list
 *   !  no caller at all: UNAUTHENTICATED
 *
 * A row is [who, what is asked, what shows that it was seen]. `$name` is a name of the scene; the last is the first `$name`
 * unless it says otherwise; after a `=` it is a piece of the answer itself. Several rows of one field differ by a note in parentheses.
 */
export type GraphqlRow = [who: string, text: string, shows?: keyof Names | `=${string}`];

//  a-------- anonymous
//  |s------- stranger: an OWNER of another project
//  ||v------ VIEWER
//  |||u----- USER, whose instance it is
//  ||||o---- OWNER
//  |||||n--- the computer's node
//  ||||||m-- another node of the project
//  |||||||i- the instance itself
//  ||||||||A administrator

// biome-ignore format: the letters are read downwards.
export const queries: Record<string, GraphqlRow> = {
  "Query.artifact": ["!yyyyyyyy", "artifact(sha512: $artifact) { sha512 }"],
  "Query.auditRecords": ["!...y...y", "auditRecords(first: 1, filter: { project: $project }) { edges { node { id } } }", "auditRecord"],
  "Query.artifacts": ["!.yyy...y", "artifacts(first: 100) { edges { node { sha512 } } }", "artifact"],
  "Query.bangs": ["!.yyyy.yy", "bangs(first: 100) { edges { node { id } } }", "bang"],
  "Query.bangs (of the computer)": ["!.yyyy..y", "bangs(first: 100) { edges { node { id } } }", "computerBang"],
  "Query.cacheDrift": ["!.yyy...y", "cacheDrift(release: $release) { variants { sha512 } }", "artifact"],
  "Query.cachePolicy": ["!.yyy...y", "cachePolicy(project: $project) { project }"],
  "Query.cacheStatistics": ["!.yyy...y", "cacheStatistics(project: $project) { project }"],
  "Query.certificates": ["!...y..yy", "certificates(first: 100) { edges { node { id } } }", "certificate"],
  "Query.computer": ["!.yyyy..y", "computer(reference: $computer) { reference }"],
  "Query.computers": ["!.yyyy..y", "computers(first: 100) { edges { node { reference } } }", "computer"],
  "Query.directoryEntries": ["!yyyyyyyy", "directoryEntries(key: $entryKey, first: 1) { edges { node { key } } }"],
  "Query.explainAllocation": [
    "!.yyyf.fy",
    "explainAllocation(instance: $instance, first: 1) { edges { node { key } } }",
    "partition",
  ],
  "Query.explainAllocation (of a request)": [
    "!.fyyfffy",
    'explainAllocation(request: { title: "x", releaseUrl: "x" }, first: 1) { edges { node { key } } }',
    "partition",
  ],
  "Query.explainAllocation (the hosts of a shared one)": ["!.f..fff.", 'explainAllocation(request: { title: "x", releaseUrl: "x", shared: true }, first: 100) { edges { node { reasons { message } } } }', "=SOFTINST-"],
  "Query.instance": ["!.yyyy.yy", "instance(reference: $instance) { reference }"],
  "Query.instance (a child)": ["!.yyyy.yy", "instance(reference: $child) { reference }"],
  "Query.instance (another's)": ["!.y.yy..y", "instance(reference: $ownersInstance) { reference }"],
  "Query.instances": ["!.yyyy.yy", "instances(first: 100) { edges { node { reference } } }", "instance"],
  "Query.instances (another's)": [
    "!.y.yy..y",
    "instances(first: 100) { edges { node { reference } } }",
    "ownersInstance",
  ],
  "Query.partition": ["!.yyyy.yy", "partition(key: $partition) { key }"],
  "Query.partition (a free one)": ["!.y.yy..y", "partition(key: $sparePartition) { key }"],
  "Query.person": ["!..yy...y", "person(subject: $person) { subject }"],
  "Query.persons": ["!..yy...y", "persons(first: 100) { edges { node { subject } } }", "person"],
  "Query.project": ["!.yyyyyyy", "project(name: $project) { name }"],
  "Query.projects": ["!.yyyyyyy", "projects(first: 100) { edges { node { name } } }", "project"],
  "Query.registrationTokens": [
    "!...y...y",
    "registrationTokens(first: 100) { edges { node { id } } }",
    "registrationToken",
  ],
  "Query.signingKeys": ["!.......y", "signingKeys { isCurrent }", '="isCurrent":true'],
  "Query.retentionPreview": ["!.yyy...y", "retentionPreview(project: $project) { project }"],
  "Query.reindex": ["!.......y", "reindex { restoredEntries }", '="restoredEntries":'],
  "Query.softwareProduct": ["!.yyyyyyy", 'softwareProduct(name: $product, project: "main") { name }'],
  "Query.softwareProducts": ["!.yyyyyyy", "softwareProducts(first: 100) { edges { node { name } } }", "product"],
  "Query.softwareRelease": ["!.yyyyyyy", "softwareRelease(url: $release) { url }"],
  "Query.tokens": ["!...y...y", "tokens(first: 100) { edges { node { id } } }", "token"],
  "Query.trustedCertificates": ["!.yyy...y", "trustedCertificates(first: 100) { edges { node { id } } }", "trustedCertificate"],
};

/** `node` and `nodes`, for each type that they reach: the global id of what is named. */
// biome-ignore format: the letters are read downwards.
export const nodes: Record<string, [who: string, name: keyof Names]> = {
  Artifact: ["!yyyyyyyy", "artifact"],
  AuditRecord: ["!...y...y", "auditRecord"],
  Bang: ["!.yyyy.yy", "bang"],
  Certificate: ["!...y..yy", "certificate"],
  Computer: ["!.yyyy..y", "computer"],
  ComputerPartition: ["!.yyyy.yy", "partition"],
  DirectoryEntry: ["!yyyyyyyy", "entry"],
  Person: ["!..yy...y", "person"],
  Project: ["!.yyyyyyy", "project"],
  RegistrationToken: ["!...y...y", "registrationToken"],
  SoftwareInstallation: ["!.yyyy..y", "installation"],
  SoftwareInstance: ["!.yyyy.yy", "instance"],
  SoftwareProduct: ["!.yyyyyyy", "product"],
  // A release may be referred to before anybody published it: every url is one.
  SoftwareRelease: ["!yyyyyyyy", "release"],
  Token: ["!...y...y", "token"],
  TrustedCertificate: ["!.yyy...y", "trustedCertificate"],
};

const computer = (selection: string) => `computer(reference: $computer) { ${selection} }`;
const instance = (selection: string) => `instance(reference: $instance) { ${selection} }`;
const partition = (selection: string) => `partition(key: $partition) { ${selection} }`;

// biome-ignore format: the letters are read downwards.
export const fields: Record<string, GraphqlRow> = {
  "AllocationCandidate.partition": [
    "!.y.yf.fy",
    "explainAllocation(instance: $instance, first: 100) { edges { node { partition { key } } } }",
    "freePartition",
  ],
  "Artifact.computers": [
    "!.yyyy..y",
    "artifact(sha512: $artifact) { computers(first: 10) { edges { node { reference } } } }",
    "computer",
  ],
  "Artifact.entries": ["!yyyyyyyy", "artifact(sha512: $artifact) { entries(first: 10) { edges { node { id } } } }", "entry"],
  "Artifact.releases": ["!yyyyyyyy", "artifact(sha512: $artifact) { releases { url } }", "release"],
  // Of a project that a caller sees, every blob is one that it sees; there is none to go yet.
  "CollectableArtifact.artifact": [
    "!.yyy...y",
    "retentionPreview(project: $project) { project artifacts(first: 1) { edges { node { artifact { sha512 } } } } }",
  ],
  "CacheDriftVariant.artifact": [
    "!.yyy...y",
    "cacheDrift(release: $release) { variants { artifact { sha512 } } }",
    "artifact",
  ],
  "CacheDriftVariant.computers": [
    "!.yyy...y",
    "cacheDrift(release: $release) { variants { computers(first: 10) { edges { node { reference } } } } }",
    "computer",
  ],
  "Computer.artifacts": ["!.yyyy..y", computer("artifacts(first: 10) { edges { node { sha512 } } }"), "artifact"],
  "Computer.installations": [
    "!.yyyy..y",
    computer("installations(first: 10) { edges { node { softwareRelease { url } } } }"),
    "release",
  ],
  "Computer.instances": ["!.yyyy..y", computer("instances(first: 100) { edges { node { reference } } }"), "instance"],
  "Computer.instances (another's)": [
    "!.y.yy..y",
    computer("instances(first: 100) { edges { node { reference } } }"),
    "ownersInstance",
  ],
  "Computer.lastBang": ["!.yyyy..y", computer("lastBang { id }"), "computerBang"],
  "Computer.partitions": ["!.yyyy..y", computer("partitions(first: 100) { edges { node { key } } }"), "partition"],
  "Computer.partitions (another's)": [
    "!.y.yy..y",
    computer("partitions(last: 1) { edges { node { key } } }"),
    "lastPartition",
  ],
  "Computer.usageReports": ["!.y.yy..y", computer("usageReports(first: 1) { edges { node { tioxml } } }"), "usage"],
  "ComputerPartition.computer": ["!.yyyy..y", partition("computer { reference }"), "computer"],
  "ComputerPartition.instance": ["!.yyyy.yy", partition("instance { reference }"), "instance"],
  "ComputerPartition.lastBang": ["!.yyyy.yy", partition("lastBang { id }"), "bang"],
  "DirectoryEntry.artifact": [
    "!yyyyyyyy",
    "node(id: $entry) { ... on DirectoryEntry { artifact { sha512 } } }",
    "artifact",
  ],
  "Person.roles": ["!..yy...y", "person(subject: $person) { roles { project } }", "project"],
  "DirectoryEntry.signedBy": [
    "!.yyy...y",
    "node(id: $entry) { ... on DirectoryEntry { signedBy { id } } }",
    "trustedCertificate",
  ],
  "DirectoryEntry.softwareRelease": [
    "!yyyyyyyy",
    "node(id: $entry) { ... on DirectoryEntry { softwareRelease { url } } }",
    "release",
  ],
  "RetentionPreview.artifacts": [
    "!.yyy...y",
    "retentionPreview(project: $project) { project artifacts(first: 1) { edges { cursor } } }",
  ],
  "SoftwareInstallation.computer": [
    "!.yyyy..y",
    computer("installations(first: 10) { edges { node { computer { reference } } } }"),
  ],
  "SoftwareInstallation.softwareRelease": [
    "!.yyyy..y",
    computer("installations(first: 10) { edges { node { softwareRelease { url } } } }"),
    "release",
  ],
  "SoftwareInstance.children": ["!.yyyy.yy", instance("children { reference }"), "child"],
  "SoftwareInstance.connectionParameters": ["!..yyy.yy", instance("connectionParameters"), "secret"],
  "SoftwareInstance.parent": ["!.yyyy.yy", "instance(reference: $child) { parent { reference } }", "instance"],
  "SoftwareInstance.partition": ["!.yyyy.yy", instance("partition { key }"), "partition"],
  "SoftwareInstance.root": ["!.yyyy.yy", "instance(reference: $child) { root { reference } }", "instance"],
  "SoftwareInstance.softwareRelease": ["!.yyyy.yy", instance("softwareRelease { url }"), "release"],
  "SoftwareProduct.softwareReleases": [
    "!.yyyyyyy",
    'softwareProduct(name: $product, project: "main") { softwareReleases(first: 10) { edges { node { url } } } }',
    "release",
  ],
  "SoftwareRelease.product": ["!.yyyyyyy", "softwareRelease(url: $release) { product { name } }", "product"],
};

// biome-ignore format: the letters are read downwards.
export const mutations: Record<string, GraphqlRow> = {
  "Mutation.bangComputer": ["!.ffyy..y", 'bangComputer(input: { reference: $computer, message: "x" }) { bang { computerReference } }'],
  "Mutation.bangInstance": ["!.fyyy.yy", 'bangInstance(input: { reference: $instance, message: "x" }) { bang { instanceReference } }'],
  "Mutation.bangInstance (another's)": ["!.f.yy..y", 'bangInstance(input: { reference: $ownersInstance, message: "x" }) { bang { instanceReference } }'],
  "Mutation.closeComputer": ["!.ffy...y", "closeComputer(input: { reference: $spareComputer }) { computer { reference } }"],
  "Mutation.collectArtifacts": ["!.ffyfffy", "collectArtifacts(input: { project: $project }) { project }"],
  "Mutation.cordonComputer": ["!.ffyf..y", "cordonComputer(input: { reference: $computer }) { computer { reference } }"],
  "Mutation.createComputer": ["!yffyfffy", "createComputer(input: { reference: $new }) { computer { reference } }"],
  "Mutation.createInstanceToken": ["!.fyyf.fy", "createInstanceToken(input: { reference: $instance }) { instance { reference } }"],
  "Mutation.createPerson": ["!fffffffy", "createPerson(input: { subject: $new }) { person { subject } }"],
  "Mutation.createProject": ["!fffffffy", "createProject(input: { name: $new }) { project { name } }"],
  "Mutation.createRegistrationToken": [
    "!.ffyfffy",
    "createRegistrationToken(input: { project: $project }) { registrationToken { project } }",
  ],
  "Mutation.createSoftwareProduct": [
    "!.ffyfffy",
    "createSoftwareProduct(input: { name: $new, project: $project }) { softwareProduct { project } }",
    "project",
  ],
  "Mutation.createToken": [
    "!.ffyfffy",
    "createToken(input: { person: $person, role: VIEWER, project: $project }) { token { subject } }",
  ],
  "Mutation.createToken (of a computer)": ["!.ffyfffy", "createToken(input: { computerReference: $computer }) { token { subject } }"],
  "Mutation.deprecateSoftwareRelease": [
    "!.ffyfffy",
    "deprecateSoftwareRelease(input: { url: $oldRelease }) { softwareRelease { url } }",
  ],
  "Mutation.destroyInstance": ["!.fyyf..y", "destroyInstance(input: { reference: $doomed }) { instance { reference } }"],
  "Mutation.distrustCertificate": [
    "!.ffy...y",
    "distrustCertificate(input: { id: $distrustedCertificate }) { trustedCertificate { id } }",
  ],
  "Mutation.drainComputer": ["!.ffyf..y", "drainComputer(input: { reference: $computer }) { computer { reference } }"],
  "Mutation.pinArtifact": ["!fffyfffy", "pinArtifact(input: { sha512: $artifact }) { artifact { sha512 } }"],
  "Mutation.pinDirectoryEntry": ["!fffyfffy", "pinDirectoryEntry(input: { id: $entry }) { directoryEntry { id } }"],
  "Mutation.publishSoftwareRelease": [
    "!.ffyfffy",
    "publishSoftwareRelease(input: { productName: $product, project: $project, url: $release }) { softwareRelease { url } }",
    "release",
  ],
  "Mutation.renameInstance": [
    "!.fyyy.yy",
    "renameInstance(input: { reference: $instance, title: $tree }) { instance { reference } }",
  ],
  "Mutation.requestInstance": [
    "!.fyyfffy",
    "requestInstance(input: { title: $new, releaseUrl: $release, project: $project }) { instance { project } }",
    "project",
  ],
  "Mutation.revokeCertificate": ["!...y...y", "revokeCertificate(input: { id: $computerCertificate }) { certificate { id } }"],
  "Mutation.revokeRegistrationToken": [
    "!...y...y",
    "revokeRegistrationToken(input: { id: $registrationToken }) { registrationToken { id } }",
  ],
  "Mutation.revokeToken": ["!...y...y", "revokeToken(input: { id: $token }) { token { id } }"],
  "Mutation.revokeRole": ["!.ffyfffy", "revokeRole(input: { person: $formerMember, project: $project }) { tokens { subject } }", '="tokens":['],
  "Mutation.rotateSigningKey": ["!fffffffy", "rotateSigningKey(input: {}) { signingKey { isCurrent } }", '="isCurrent":true'],
  "Mutation.reindexArtifacts": ["!fffffffy", "reindexArtifacts { reindex { readBytes } }", '="readBytes":'],
  "Mutation.scrubArtifacts": ["!fffffffy", "scrubArtifacts { isRunning }", '="isRunning":true'],
  "Mutation.setCachePolicy": ["!.ffyfffy", "setCachePolicy(input: { project: $project }) { cachePolicy { project } }"],
  "Mutation.setComputerAttributes": [
    "!.ffyf..y",
    "setComputerAttributes(input: { reference: $computer, attributes: [] }) { computer { reference } }",
  ],
  "Mutation.startInstance": ["!.fyyf.fy", "startInstance(input: { reference: $instance }) { instance { reference } }"],
  "Mutation.startInstance (a child)": ["!.fyyf.yy", "startInstance(input: { reference: $child }) { instance { reference } }"],
  "Mutation.stopInstance": ["!.f.yf..y", "stopInstance(input: { reference: $ownersInstance }) { instance { reference } }"],
  "Mutation.supplySoftware": [
    "!.ffyf..y",
    "supplySoftware(input: { computerReference: $computer, releaseUrl: $release }) { installation { softwareRelease { url } } }",
    "release",
  ],
  "Mutation.trustCertificate": [
    "!.ffyfffy",
    "trustCertificate(input: { certificate: $pem, project: $project }) { trustedCertificate { project } }",
    "project",
  ],
  "Mutation.uncordonComputer": ["!.ffyf..y", "uncordonComputer(input: { reference: $computer }) { computer { reference } }"],
  "Mutation.unpinArtifact": ["!fffyfffy", "unpinArtifact(input: { sha512: $artifact }) { artifact { sha512 } }"],
  "Mutation.unpinDirectoryEntry": ["!fffyfffy", "unpinDirectoryEntry(input: { id: $entry }) { directoryEntry { id } }"],
  "Mutation.withdrawSoftware": [
    "!.ffyf..y",
    "withdrawSoftware(input: { computerReference: $computer, releaseUrl: $release }) { installation { softwareRelease { url } } }",
    "release",
  ],
  "Mutation.withdrawSoftwareRelease": [
    "!.ffyfffy",
    "withdrawSoftwareRelease(input: { url: $oldRelease }) { softwareRelease { url } }",
  ],
};

/** Replayed from the beginning of the log: what is heard there is what is heard live. */
// biome-ignore format: the letters are read downwards.
export const subscriptions: Record<string, GraphqlRow> = {
  "Subscription.computerStateChanged": [
    "!.yyyy..y",
    "computerStateChanged(after: $start) { cursor change { computer { reference } } }",
    "computer",
  ],
  "Subscription.installationStateChanged": [
    "!.yyyy..y",
    "installationStateChanged(after: $start) { cursor change { installation { softwareRelease { url } } } }",
    "release",
  ],
  "Subscription.partitionStateChanged": [
    "!.yyyy.yy",
    "partitionStateChanged(after: $start) { cursor change { partition { key } } }",
    "partition",
  ],
};

/** What an event or a payload leads to is what its subscription's or mutation's row shows. */
export const coveredByTheirRoot = [/Connection$/, /Edge$/, /Payload$/, /StateChange$/, /StateEvent$/];
