import { runSubgraph } from "../../common/run-service.js";
import { openIdentity } from "./server.js";

await runSubgraph(openIdentity, "identity");
