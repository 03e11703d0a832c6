import type { Caller, Role } from "../../common/identity.js";
import type { FormatReport } from "../../subgraphs/computer/computer/computer.service.js";
import type { ComputerServices } from "../../subgraphs/computer/context.js";
import type { InstanceRequest } from "../../subgraphs/computer/instance/instance.service.js";
import type { NodeViewService } from "../../subgraphs/computer/node-view.js";
import { openComputer } from "../../subgraphs/computer/server.js";
import { openMonitoring } from "../../subgraphs/monitoring/server.js";
import { createTestDatabase, openTestResources, type TestResources } from "./database.js";

export const administrator: Caller = { kind: "administrator", subject: "administrator" };

export const testRelease = "http://release.example/software.cfg";

const soon = () => Date.now() + 3_600_000;

export function person(subject: string, role: Role, project = "main"): Caller {
  return { kind: "person", subject, role, project, tokenId: `${subject}-token`, expiresAt: soon() };
}

export function nodeOf(subject: string, project = "main"): Caller {
  return { kind: "node", subject, project, tokenId: `${subject}-token`, expiresAt: soon() };
}

export function formatOf(reference: string, count: number, capabilities: string[] = []): FormatReport {
  return {
    reference,
    slaposVersion: null,
    pythonVersion: null,
    osType: null,
    partitions: Array.from({ length: count }, (_, number) => ({
      reference: `slappart${number}`,
      addresses: [["slaptap0", `10.0.0.${number}`] as [string, string]],
      routedAddresses: [],
      capabilities,
    })),
  };
}

export function requestOf(title: string, filter: Record<string, string> = {}): InstanceRequest {
  return {
    title,
    releaseUrl: testRelease,
    softwareType: "default",
    parameters: {},
    filter,
    requestedState: null,
  };
}

/** The services of computer and monitoring on a database of the file's own, their consumers running. */
export interface Services {
  resources: TestResources;
  computer: ComputerServices & { nodeViews: NodeViewService };
  monitoring: Awaited<ReturnType<typeof openMonitoring>>["services"];
  sql: <Row = Record<string, unknown>>(statement: string, parameters?: unknown[]) => Promise<Row[]>;
  close(): Promise<void>;
}

export async function openServices(): Promise<Services> {
  const database = await createTestDatabase();
  const resources = await openTestResources(database.url);
  const computer = await openComputer(resources, (credential) => `http://master/k/${credential}/`);
  const monitoring = await openMonitoring(resources);
  for (const service of [computer, monitoring]) service.startConsumers();
  return {
    resources,
    computer: computer.services,
    monitoring: monitoring.services,
    sql: (statement, parameters = []) => resources.eventLog.orm.em.fork().execute(statement, parameters),
    close: async () => {
      await resources.eventLog.stop();
      for (const service of [monitoring, computer]) await service.close();
      await resources.close();
      await database.drop();
    },
  };
}
