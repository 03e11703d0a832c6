import { slapUrlOf } from "../../common/config.js";
import { runSubgraph } from "../../common/run-service.js";
import { openIdentity } from "./server.js";

await runSubgraph(
  (resources, config) => openIdentity(resources, (credential) => `${slapUrlOf(config)}/k/${credential}/`),
  "identity",
);
