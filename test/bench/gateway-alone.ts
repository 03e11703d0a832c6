import { parse } from "graphql";
import { loadConfig } from "../../common/config.js";
import { createLogger } from "../../common/log.js";
import { openResources } from "../../common/resources.js";
import { executeOperation, type Subgraph } from "../../common/subgraph.js";
import { startGateway } from "../../gateway/server.js";
import { openComputer } from "../../subgraphs/computer/server.js";
import { openMonitoring } from "../../subgraphs/monitoring/server.js";

/**
 * A process with a gateway and the two subgraphs of the join in it. Asked through the door it does all of a join's work; told
 * so by a message, what the subgraphs do of it alone. What it takes more by the door is the gateway's.
 */
export interface Told {
  seconds: number;
  clients: { computer: string; token: string }[];
}

const config = loadConfig(process.env);
const log = createLogger("error", "bench");
const resources = await openResources(config, log);
const computer = await openComputer(resources, () => "");
const monitoring = await openMonitoring(resources);
const gateway = await startGateway({
  host: "127.0.0.1",
  port: 0,
  tokens: resources.tokens,
  subgraphs: [computer.subgraph, monitoring.subgraph],
  checkReady: () => resources.eventLog.ping(),
  log,
});

/** As the plan of the bench's join has them. */
const partitions = parse(
  "query($c:String!){computer(reference: $c){reference liveness partitions(first: 20){edges{node{__typename key state id}}}}}",
);
const health = parse(
  "query($representations:[_Any!]!){_entities(representations: $representations){...on ComputerPartition{health}}}",
);

process.on("message", ({ seconds, clients }: Told) => {
  const endsAt = performance.now() + seconds * 1000;
  const client = async ({ computer: c, token }: Told["clients"][number]): Promise<number> => {
    const caller = await resources.tokens.verify(token);
    const ask = (subgraph: Subgraph, document: typeof health, variables: Record<string, unknown>) =>
      executeOperation(subgraph, { document, variables, isSubscription: false, caller, requestId: "bench" }, log);
    let count = 0;
    for (; performance.now() < endsAt; count++) {
      const { data } = (await ask(computer.subgraph, partitions, { c })) as {
        data: { computer: { partitions: { edges: { node: { __typename: string; id: string } }[] } } };
      };
      const representations = data.computer.partitions.edges.map(({ node: { __typename, id } }) => ({
        __typename,
        id,
      }));
      await ask(monitoring.subgraph, health, { representations });
    }
    return count;
  };
  void Promise.all(clients.map(client)).then((counts) => process.send?.(counts.reduce((sum, count) => sum + count)));
});
process.send?.(gateway.url);
