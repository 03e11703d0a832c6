import { slapUrlOf } from "../../common/config.js";
import { runSubgraph } from "../../common/run-service.js";
import { openComputer } from "./server.js";

await runSubgraph(
  (resources, config) => openComputer(resources, (credential) => `${slapUrlOf(config)}/k/${credential}/`),
  "computer",
);
