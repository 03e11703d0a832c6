import { auditMutations } from "./audited-mutations.js";
import { type Config, ConfigError, loadConfig } from "./config.js";
import { closeOnSignal } from "./lifecycle.js";
import { createLogger, type Logger } from "./log.js";
import { openResources, type Resources } from "./resources.js";
import { serveSubgraph } from "./subgraph-server.js";
import type { SubgraphService } from "./subgraph-service.js";

export type StartService = (config: Config, resources: Resources, log: Logger) => Promise<{ url: string }>;

/** The head of every process that runs one service: configuration, start, signals. What the service opens it adds to `resources.closer`. */
export async function runService(name: string, start: StartService): Promise<void> {
  try {
    const config = loadConfig(process.env);
    if (config.databaseUrl === undefined)
      throw new ConfigError(`DATABASE_URL is missing: ${name} runs apart and shares a database.`);
    const log = createLogger(config.logLevel, name);
    const resources = await openResources(config, log);
    try {
      const { url } = await start(config, resources, log);
      closeOnSignal(() => resources.closer.close(log));
      process.stdout.write(`${name} is ready at ${url}\n`);
    } catch (error) {
      await resources.closer.close(log);
      throw error;
    }
  } catch (error) {
    process.stderr.write(error instanceof ConfigError ? `${name}: ${error.message}\n` : `${(error as Error).stack}\n`);
    process.exitCode = 1;
    setTimeout(() => process.exit(1), 500).unref();
  }
}

/** A subgraph on its own, for a gateway that reaches it over HTTP and WebSocket. */
export function runSubgraph(
  open: (resources: Resources, config: Config) => Promise<SubgraphService>,
  name: string,
): Promise<void> {
  return runService(name, async (config, resources, log) => {
    const service = await open(resources, config);
    resources.closer.add(name, () => service.close());
    service.startConsumers();
    resources.closer.add("consumers", () => resources.eventLog.stop());
    const server = await serveSubgraph({
      subgraph: auditMutations(service.subgraph, resources.audit),
      tokens: resources.tokens,
      serviceKey: resources.serviceKey,
      host: config.subgraphHost,
      port: config.subgraphPort,
      portVariable: "SLAPGRAPH_SUBGRAPH_PORT",
      log,
      checkReady: () => Promise.all([resources.eventLog.ping(), service.checkReady()]),
    });
    resources.closer.add("server", () => server.close());
    return server;
  });
}
