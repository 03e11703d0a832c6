import { runSubgraph } from "../../common/run-service.js";
import { openMonitoring } from "./server.js";

await runSubgraph(openMonitoring, "monitoring");
