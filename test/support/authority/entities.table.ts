import type { Names } from "./scene.js";

/**
 * Who is shown each type that a subgraph resolves by `_entities`: the letters of graphql.table.ts. The gateway is the only
 * one that asks, with the caller's token: what a query would not show, a join does not show.
 */
export type EntityRow = [who: string, name: keyof Names, selection: string, shows: keyof Names];

// biome-ignore format: the letters are read downwards.
export const entities: Record<string, EntityRow> = {
  //                                a-------- anonymous
  //                                |s------- stranger: an OWNER of another project
  //                                ||v------ VIEWER
  //                                |||u----- USER, whose instance it is
  //                                ||||o---- OWNER
  //                                |||||n--- the computer's node
  //                                ||||||m-- another node of the project
  //                                |||||||i- the instance itself
  //                                ||||||||A administrator
  "catalog.SoftwareProduct":      ["!.yyyyyyy", "product", "title", "product"],
  // A release may be referred to before anybody published it: every url is one, and its product is what is hidden.
  "catalog.SoftwareRelease":      ["!.yyyyyyy", "release", "product { name }", "product"],
  "computer.Computer":            ["!.yyyy..y", "computer", "reference", "computer"],
  "computer.ComputerPartition":   ["!.yyyy.yy", "partition", "key", "partition"],
  "computer.SoftwareInstallation": ["!.yyyy..y", "installation", "softwareRelease { url }", "release"],
  "computer.SoftwareInstance":    ["!.yyyy.yy", "instance", "reference", "instance"],
  // Only its url is here, which whoever names it has.
  "computer.SoftwareRelease":     ["!yyyyyyyy", "release", "id", "release"],
  "identity.AuditRecord":         ["!...y...y", "auditRecord", "id", "auditRecord"],
  "identity.Certificate":         ["!...y..yy", "certificate", "id", "certificate"],
  "identity.Person":              ["!..yy...y", "person", "subject", "person"],
  "identity.Project":             ["!.yyyyyyy", "project", "name", "project"],
  "identity.RegistrationToken":   ["!...y...y", "registrationToken", "id", "registrationToken"],
  "identity.Token":               ["!...y...y", "token", "id", "token"],
  "monitoring.Bang":              ["!.yyyy.yy", "bang", "id", "bang"],
  "monitoring.Computer":          ["!.yyyy..y", "computer", "lastBang { computerReference }", "computer"],
  "monitoring.ComputerPartition": ["!.yyyy.yy", "partition", "lastBang { partitionKey }", "partition"],
  "shacache.Artifact":            ["!yyyyyyyy", "artifact", "sha512", "artifact"],
  "shacache.Computer":            ["!.yyyy..y", "computer", "artifacts(first: 10) { edges { sha512 } }", "artifact"],
  "shacache.DirectoryEntry":      ["!yyyyyyyy", "entry", "id", "entry"],
  "shacache.SoftwareRelease":     ["!yyyyyyyy", "release", "id", "release"],
  "shacache.TrustedCertificate":  ["!.yyy...y", "trustedCertificate", "id", "trustedCertificate"],
};
