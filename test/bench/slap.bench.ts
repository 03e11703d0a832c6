import http from "node:http";
import { slapForms } from "../support/slap-client.js";
import { pythonToolchain } from "../support/toolchain.js";
import { call, rate } from "./load.js";
import { median, printRow, say } from "./report.js";
import { HandWritten, publish, report, requestExisting, requestNew } from "./slap-hand-written.js";
import {
  furnish,
  type Master,
  parametersOf,
  post,
  releaseUrl,
  startBare,
  startSlapgraph,
  startSlapproxy,
} from "./slap-masters.js";

const computer = "COMP-1";
const rounds = Number(process.env.BENCH_ROUNDS ?? 3);
const seconds = 2;
const keys = Array.from({ length: 50 }, (_, n) => `${computer}/slappart${n}`);
const keyOf = (n: number) => keys[n % keys.length] ?? "";
/** Two reports of one partition in a row differ, so each changes something. */
const stateOf = (n: number) => (Math.floor(n / keys.length) % 2 === 0 ? "ERROR" : "STARTED");

/** Each piece of work by every master in turn, round by round, so that a machine that gets slower does so for all. */
async function inTurn(measures: (() => Promise<number>)[]): Promise<number[]> {
  const figures: number[][] = measures.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, measure] of measures.entries()) figures[index]?.push(await measure());
  }
  return figures.map(median);
}

const poll = (master: Master) => () =>
  rate({ url: `${master.url}getFullComputerInformation?computer_id=${computer}`, seconds });

/** Polls, each behind a change of one partition. By plain node:http: fetch takes longer to read the answer than we to make it. */
const pollChanged = (master: Master) => async () => {
  const amount = master.name === "slapproxy" ? 20 : 200;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let elapsedMs = 0;
  for (let n = 0; n < amount; n++) {
    await post(
      master,
      "setComputerPartitionConnectionXml",
      slapForms.connection(keyOf(n), { url: `${Math.random()}` }),
    );
    const startedAt = performance.now();
    const status = await call(`${master.url}getFullComputerInformation?computer_id=${computer}`, agent);
    elapsedMs += performance.now() - startedAt;
    if (status !== 200) throw new Error(`${master.name} answered ${status}`);
  }
  agent.destroy();
  return amount / (elapsedMs / 1000);
};

const requestAgain = (master: Master) => () =>
  rate({
    url: `${master.url}requestComputerPartition`,
    seconds,
    body: (n) =>
      slapForms.request(`${computer} ${n % 50}`, releaseUrl, parametersOf(n % 50), { computer_guid: computer }),
  });

let requested = 0;
const requestMore = (master: Master, amount: number) => () =>
  rate({
    url: `${master.url}requestComputerPartition`,
    amount,
    body: () =>
      slapForms.request(`new ${requested++}`, releaseUrl, parametersOf(requested), { computer_guid: "COMP-new" }),
  });

let published = 0;
const publishNew = (master: Master) => () =>
  rate({
    url: `${master.url}setComputerPartitionConnectionXml`,
    seconds,
    body: (n) => slapForms.connection(keyOf(n), { url: `https://new.example/${published++}` }),
  });

const reports = (master: Master) => async () => {
  let n = 0;
  const amount = master.name === "slapproxy" ? 1_000 : 2_000;
  // The two kinds go to two addresses; they are measured one after the other, a half each.
  const errors = await rate({
    url: `${master.url}softwareInstanceError`,
    amount: amount / 2,
    body: () => slapForms.error(keyOf(n), `a promise fails ${n++}`),
  });
  const started = await rate({
    url: `${master.url}startedComputerPartition`,
    amount: amount / 2,
    body: () => slapForms.partition(keyOf(n++)),
  });
  return 2 / (1 / errors + 1 / started);
};

/** What the same work is measured beside, and the ratio that is wanted. */
interface Peer {
  name: string;
  measure: () => Promise<number>;
  goal: number;
}

/** A fleet of 10,000 computers of 100 partitions around the one that is measured, written as SQL. */
async function addFleet(hand: HandWritten): Promise<void> {
  const statements = [
    `insert into computer.computer (reference, project, title, scope, attributes, liveness, liveness_since, created_at, revision)
     select 'FLEET-' || c, 'main', 'FLEET-' || c, 'OPEN', '{}', 'ONLINE', now(), now(), 1 from generate_series(1, 10000) c`,
    `insert into computer.instance (reference, number, project, title, root_reference, owner, release_url, software_type, is_shared,
       parameters, filter, requested_state, allocation, pending_reasons, partition_key, reported_state, connection_parameters, created_at, revision)
     select 'SOFTINST-' || (1000000 + c * 100 + p), 1000000 + c * 100 + p, 'main', c || '/' || p, 'SOFTINST-' || (1000000 + c * 100 + p), 'fleet',
       'http://releases.example/software.cfg', 'default', false, '{"a": "b"}', '{}', 'STARTED', 'ALLOCATED', '[]', 'FLEET-' || c || '/slappart' || p,
       'STARTED', '{"url": "x"}', now(), 1 from generate_series(1, 10000) c, generate_series(0, 49) p`,
    `insert into computer.partition (key, computer_reference, reference, project, state, state_since, revision, capabilities, addresses,
       routed_addresses, is_listed, instance_reference, owner)
     select 'FLEET-' || c || '/slappart' || p, 'FLEET-' || c, 'slappart' || p, 'main', case when p < 50 then 'STARTED' else 'FREE' end, now(), 1,
       '[]', '[]', '[]', true, case when p < 50 then 'SOFTINST-' || (1000000 + c * 100 + p) end, case when p < 50 then 'fleet' end
     from generate_series(1, 10000) c, generate_series(0, 99) p`,
    "analyze",
  ];
  for (const statement of statements) await hand.statement(statement);
}

/** The SLAP door beside slapproxy, a bare node:http server with the same bytes, and the same SQL written by hand. */
export async function run(): Promise<void> {
  const toolchain = await pythonToolchain();
  if ("missing" in toolchain) throw new Error(`slapproxy is the peer here, and there is ${toolchain.missing}.`);
  const ours = await startSlapgraph();
  const proxy = await startSlapproxy(toolchain);
  const hand = new HandWritten(ours.databaseUrl);
  for (const reference of [computer, "COMP-new"]) await ours.createComputer(reference);
  for (const master of [ours, proxy]) {
    await furnish(master, computer, 100, 50);
    await post(master, "loadComputerConfigurationFromXML", slapForms.format("COMP-new", 4_000));
  }
  // As the database does by itself within a minute; until then it plans for the tables as they were when they were empty.
  await hand.statement("analyze");
  const answer = await fetch(`${ours.url}getFullComputerInformation?computer_id=${computer}`);
  const bytes = Buffer.from(await answer.arrayBuffer());
  const bare = await startBare(bytes);
  const bareSmall = await startBare(Buffer.from("done"));
  say(`getFullComputerInformation has ${bytes.length} bytes; medians of ${rounds} rounds in turn\n`);

  const compare = async (work: string, measure: () => Promise<number>, peers: readonly Peer[]): Promise<number> => {
    const [own = 0, ...figures] = await inTurn([measure, ...peers.map((peer) => peer.measure)]);
    for (const [index, { name: peerName, goal }] of peers.entries())
      printRow({ work, ours: own, peer: figures[index] ?? 0, peerName, goal });
    return own;
  };
  const byProxy = (measure: () => Promise<number>, goal: number): Peer => ({ name: proxy.name, measure, goal });
  const byHand = (amount: number, work: Parameters<HandWritten["rate"]>[1]): Peer => ({
    name: "SQL by hand",
    measure: () => hand.rate(amount, work),
    goal: 0.5,
  });

  const works: [work: string, measure: () => Promise<number>, peers: Peer[]][] = [
    [
      "getFull…, unchanged",
      poll(ours),
      [byProxy(poll(proxy), 50), { name: bare.name, measure: poll(bare), goal: 0.5 }],
    ],
    ["getFull…, one partition changed", pollChanged(ours), [byProxy(pollChanged(proxy), 10)]],
    [
      "request, existing",
      requestAgain(ours),
      [
        byProxy(requestAgain(proxy), 10),
        byHand(2_000, (client, n) => requestExisting(client, `${computer} ${n % 50}`)),
      ],
    ],
    [
      "request, new",
      requestMore(ours, 400),
      [
        byProxy(requestMore(proxy, 100), 10),
        byHand(400, (client) => requestNew(client, `by hand ${requested++}`, "COMP-new")),
      ],
    ],
    [
      "connection parameters, new value",
      publishNew(ours),
      [
        byProxy(publishNew(proxy), 10),
        byHand(1_000, (client, n) => publish(client, keyOf(n), { url: `by hand ${published++}` })),
      ],
    ],
    [
      "started and error reports",
      reports(ours),
      [byProxy(reports(proxy), 2), byHand(1_000, (client, n) => report(client, keyOf(n), stateOf(n)))],
    ],
  ];
  const small: number[] = [];
  for (const [work, measure, peers] of works) small.push(await compare(work, measure, peers));
  const [kept = 0] = await inTurn([
    () => rate({ url: bareSmall.url, amount: 2_000, body: (n) => slapForms.error(keyOf(n), `a promise fails ${n}`) }),
  ]);
  say(`  (a bare node:http server that keeps nothing takes ${Math.round(kept)}/s)`);

  if (process.env.BENCH_FLEET === "off") return;
  say("\nAgain among 10,000 computers of 100 partitions; ratio to the figure above, goal at least 0.67");
  await addFleet(hand);
  for (const [index, [work, measure]] of works.entries()) {
    const [large = 0] = await inTurn([measure]);
    printRow({ work, ours: large, peer: small[index] ?? 0, peerName: "10 × 10", goal: 0.67 });
  }
}
