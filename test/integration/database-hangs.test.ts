import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { familyOf } from "../support/process-table.js";
import { RunningSystem, type Wiring } from "../support/running-system.js";
import { Subscriber } from "../support/subscriber.js";
import { waitFor } from "../support/wait-for.js";

const wirings: Wiring[] = ["one process", "apart"];
/** Well below what a statement may take. */
const bound = () => AbortSignal.timeout(25_000);

describe.each(wirings)("%s", (wiring) => {
  let system: RunningSystem;
  let hung: number[] = [];

  beforeAll(async () => {
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "silent" }, wiring);
    await system.graphql('mutation { createComputer(input: { reference: "COMP-1" }) { credential } }');
  });

  afterAll(async () => {
    goOn();
    await system?.close();
  });

  const goOn = () => {
    for (const pid of hung) process.kill(pid, "SIGCONT");
    hung = [];
  };
  const readiness = (url: string) => fetch(`${url}/readyz`).then(({ status }) => status);
  const ask = async (query: string) => {
    const response = await fetch(`${system.gatewayUrl}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${system.adminToken}` },
      body: JSON.stringify({ query }),
      signal: bound(),
    });
    const { errors = [] } = (await response.json()) as {
      errors?: { extensions: { code: string; retryable?: boolean } }[];
    };
    return errors.map(({ extensions }) => [extensions.code, extensions.retryable]);
  };

  test("while the database hangs readiness tells and each answer says try again within a bound, and all recovers by itself", async () => {
    const { pids } = system;
    const subscriber = new Subscriber<object>();
    const query = "subscription ($after: String) { computerStateChanged(after: $after) { cursor change { to } } }";
    const follow = () =>
      subscriber.followWebSocket(system.gatewayUrl, system.adminToken, "computerStateChanged", query);
    follow();
    await waitFor(() => subscriber.isOpen, { what: "the open stream" });
    hung = familyOf(system.postgresPid);
    for (const pid of hung) process.kill(pid, "SIGSTOP");

    const urls = [system.gatewayUrl, system.slapUrl, system.shacacheUrl];
    expect(await Promise.all(urls.map(readiness))).toEqual([503, 503, 503]);
    const refused = await Promise.all([
      ask('{ computer(reference: "COMP-1") { reference } }'),
      ask("{ softwareProducts(first: 1) { edges { cursor } } }"),
      ask('mutation { createComputer(input: { reference: "COMP-2" }) { credential } }'),
    ]);
    expect(refused).toEqual(Array(3).fill([["UNAVAILABLE", true]]));
    const form = new URLSearchParams({ computer_id: "COMP-1", computer_partition_id: "slappart0" });
    const answers = await Promise.all([
      fetch(`${system.slapUrl}/k/${system.adminToken}/startedComputerPartition`, {
        method: "POST",
        body: form,
        signal: bound(),
      }),
      fetch(`${system.slapUrl}/k/${system.adminToken}/getFullComputerInformation?computer_id=COMP-1`, {
        signal: bound(),
      }),
      fetch(`${system.shacacheUrl}/shadir/any`, { signal: bound() }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([503, 503, 503]);

    goOn();
    await system.untilReady();
    expect(await ask('{ computer(reference: "COMP-1") { reference } }')).toEqual([]);
    expect(await ask('mutation { createComputer(input: { reference: "COMP-3" }) { credential } }')).toEqual([]);
    expect(system.pids).toEqual(pids);
    // Its stream may have ended meanwhile: then it resumes where it was.
    if (!subscriber.isOpen) follow();
    const [, credential] =
      /\/k\/([^/]+)\//.exec(
        (
          await system.graphql<{ createToken: { masterUrl: string } }>(
            'mutation { createToken(input: { computerReference: "COMP-1" }) { masterUrl } }',
          )
        ).createToken.masterUrl,
      ) ?? [];
    await fetch(`${system.slapUrl}/k/${credential}/getFullComputerInformation?computer_id=COMP-1`);
    await waitFor(() => subscriber.changes.length, { what: "the event after it" });
    subscriber.cut();
  }, 150_000);
});
