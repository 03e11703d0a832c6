import http from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import WebSocket from "ws";
import { decodeCursor } from "../../common/event-stream.js";
import { readRows } from "../support/ledger.js";
import { RunningSystem, type Wiring } from "../support/running-system.js";
import { Subscriber } from "../support/subscriber.js";
import { waitFor } from "../support/wait-for.js";

const wirings: Wiring[] = ["one process", "apart"];
const query = "subscription ($after: String) { partitionStateChanged(after: $after) { cursor change { to cause } } }";
/** More than the operating system's buffers hold between two processes. */
const batch = 1_000;
const batches = 6;
const causeBytes = 5_000;

interface Answer {
  data?: { partitionStateChanged: { cursor: string; change: object | null } };
  errors?: { extensions: { code: string } }[];
}

describe.each(wirings)("%s", (wiring) => {
  let system: RunningSystem;

  beforeAll(async () => {
    system = await RunningSystem.start({ SLAPGRAPH_LOG_LEVEL: "error" }, wiring);
  });

  afterAll(() => system.close());

  const appendEvents = (count: number) =>
    readRows(
      system.databaseUrl,
      `insert into event_log.event (transaction, position, kind, subject, project, actor, cause, payload)
       select pg_current_xact_id(), nextval('event_log.event_position'), 'PartitionStateChanged', 'COMP-1/part' || i, 'main', 'test',
         repeat('x', ${causeBytes}), '{"from": "FREE", "to": "ALLOCATED", "instance": null, "owner": null}'
       from generate_series(1, $1::int) as i`,
      [count],
    );
  const flood = async () => {
    for (let number = 0; number < batches; number++) await appendEvents(batch);
  };
  /** A reader that has stopped cannot see it itself: the reason lies behind what it has not read. */
  const untilSentAway = (count: number) =>
    waitFor(() => fetch(`${system.gatewayUrl}/metrics`).then((response) => response.text()), {
      until: (text) => text.includes(`slapgraph_subscribers_too_slow_total ${count}`),
      timeoutMs: 60_000,
      what: `${count} subscribers sent away`,
    });
  const positionsOf = (answers: Answer[]) =>
    answers.flatMap(({ data }) =>
      data?.partitionStateChanged.change ? [decodeCursor(data.partitionStateChanged.cursor)] : [],
    );

  /** What was read before the end and what a new subscription with its last cursor reads are the whole log together. */
  async function expectResumed(answers: Answer[]): Promise<void> {
    const [first] = answers;
    const last = answers.findLast(({ data }) => data)?.data?.partitionStateChanged.cursor ?? null;
    const from = decodeCursor(first?.data?.partitionStateChanged.cursor ?? "");
    const resumed = new Subscriber<object>();
    resumed.cursor = last;
    resumed.followWebSocket(system.gatewayUrl, system.adminToken, "partitionStateChanged", query);
    const logged = await readRows<{ position: string }>(
      system.databaseUrl,
      "select position from event_log.event where kind = 'PartitionStateChanged' and position > $1 order by position",
      [from],
    );
    const expected = logged.map(({ position }) => Number(position));
    expect(expected.length).toBe(batch * batches);
    await waitFor(() => resumed.cursor && decodeCursor(resumed.cursor), {
      until: (position) => position === expected.at(-1),
      timeoutMs: 60_000,
      what: "the last event",
    });
    expect([...positionsOf(answers), ...resumed.cursors.map(decodeCursor)]).toEqual(expected);
    resumed.cut();
  }

  test("a WebSocket subscriber that stops reading is closed with a reason, and resumes without a gap", async () => {
    const answers: Answer[] = [];
    const socket = new WebSocket(`${system.gatewayUrl.replace("http", "ws")}/graphql`, "graphql-transport-ws");
    const closed = new Promise<{ code: number; reason: string }>((resolve) => {
      socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    socket.on("open", () => {
      const payload = { authorization: `Bearer ${system.adminToken}` };
      socket.send(JSON.stringify({ type: "connection_init", payload }));
    });
    socket.on("message", (data) => {
      const message = JSON.parse(data.toString()) as { type: string; payload: Answer };
      if (message.type === "connection_ack")
        socket.send(JSON.stringify({ id: "1", type: "subscribe", payload: { query } }));
      if (message.type === "next") answers.push(message.payload);
    });
    await waitFor(() => answers.length === 1, { what: "the first bookmark" });
    socket.pause();
    await flood();
    await untilSentAway(1);
    socket.resume();
    expect(await closed).toEqual({ code: 1013, reason: expect.stringContaining("SUBSCRIBER_TOO_SLOW") });
    expect(answers.length).toBeLessThan(batch * batches);
    await expectResumed(answers);
  }, 150_000);

  test("a subscriber over Server-Sent Events that stops reading is told so at the end, and resumes without a gap", async () => {
    let text = "";
    const { promise: response, resolve } = Promise.withResolvers<http.IncomingMessage>();
    const request = http.request(`${system.gatewayUrl}/graphql`, {
      method: "POST",
      headers: {
        accept: "text/event-stream",
        "content-type": "application/json",
        authorization: `Bearer ${system.adminToken}`,
      },
    });
    request.on("response", resolve);
    request.end(JSON.stringify({ query }));
    const stream = await response;
    const ended = new Promise((done) => stream.once("close", done));
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    await waitFor(() => text.includes("cursor"), { what: "the first bookmark" });
    stream.pause();
    await flood();
    await untilSentAway(2);
    stream.resume();
    await ended;
    const answers = [...text.matchAll(/^data: (.+)$/gm)].map(([, json]) => JSON.parse(json ?? "") as Answer);
    expect(answers.at(-1)?.errors?.[0]?.extensions.code).toBe("SUBSCRIBER_TOO_SLOW");
    expect(answers.length).toBeLessThan(batch * batches);
    await expectResumed(answers);
  }, 150_000);
});
