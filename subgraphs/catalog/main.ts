import { runSubgraph } from "../../common/run-service.js";
import { openCatalog } from "./server.js";

await runSubgraph(openCatalog, "catalog");
