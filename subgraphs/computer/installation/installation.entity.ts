import { defineEntity, p } from "@mikro-orm/core";
import { reportedInstallationStates, requestedInstallationStates } from "./installation.state.js";

export const InstallationEntity = defineEntity({
  name: "SoftwareInstallation",
  tableName: "installation",
  properties: {
    /** `COMP-1 <release url>`: a url has no space in it. */
    key: p.text().primary(),
    computerReference: p.text(),
    project: p.text(),
    url: p.text(),
    requestedState: p.enum(requestedInstallationStates),
    reportedState: p.enum(reportedInstallationStates),
    reportedSince: p.datetime(),
    errorLog: p.text().nullable(),
    createdAt: p.datetime(),
  },
});
