import { createLogger } from "../../common/log.js";

export const testLog = createLogger(process.env.SLAPGRAPH_LOG_LEVEL ?? "error", "test");
