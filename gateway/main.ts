import { ConfigError, subgraphNames } from "../common/config.js";
import { runService } from "../common/run-service.js";
import { readSubgraphSdl } from "../schema/committed.js";
import { limitsOf } from "./limits/gateway-limits.js";
import { readTrustedDocuments } from "./limits/trusted-documents.js";
import { startGateway } from "./server.js";

/** The gateway on its own, with the subgraphs at their URLs and their SDL as committed in schema/. */
await runService("gateway", async (config, { tokens, serviceKey, eventLog, closer }, log) => {
  const subgraphs = await Promise.all(
    subgraphNames.map(async (name) => {
      const url = config.subgraphUrls[name];
      if (url === undefined) {
        const variable =
          name === "shacache" ? "SLAPGRAPH_SHACACHE_SUBGRAPH_URL" : `SLAPGRAPH_${name.toUpperCase()}_URL`;
        throw new ConfigError(`${variable} is missing: a gateway that runs apart reaches every subgraph by its URL.`);
      }
      return { name, url, sdl: await readSubgraphSdl(name), serviceKey };
    }),
  );
  const gateway = await startGateway({
    host: config.host,
    port: config.gatewayPort,
    tokens,
    subgraphs,
    limits: limitsOf(config),
    maxConnections: config.limits.connections,
    trustedDocuments: config.trustedDocuments === undefined ? undefined : readTrustedDocuments(config.trustedDocuments),
    log,
    checkReady: () => eventLog.ping(),
  });
  closer.add("gateway", () => gateway.close());
  return gateway;
});
