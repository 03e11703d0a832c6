import { buildShacacheSchema } from "../shacache/subgraph.js";
import { buildCatalogSchema } from "../subgraphs/catalog/server.js";
import { buildComputerSchema } from "../subgraphs/computer/server.js";
import { buildIdentitySchema } from "../subgraphs/identity/server.js";
import { buildMonitoringSchema } from "../subgraphs/monitoring/server.js";
import { checkSchemas, writeSchemas } from "./emit.js";

/** The schemas need no service to be printed: nothing is resolved here. */
const none = {} as never;

const subgraphs = await Promise.all([
  buildIdentitySchema(none, none),
  buildCatalogSchema(none),
  buildComputerSchema(none, none, none, none),
  buildMonitoringSchema(none),
  buildShacacheSchema(none, none),
]);

if (process.argv[2] === "write") await writeSchemas(subgraphs);
else await checkSchemas(subgraphs);
