import { createHash, randomBytes } from "node:crypto";
import { existsSync, renameSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { dumps } from "../../slap/xml-marshaller.js";
import { type MinioServer, startMinio } from "../support/minio-server.js";
import { RunningSystem, type Wiring } from "../support/running-system.js";
import { Subscriber } from "../support/subscriber.js";
import { minioBinary, reasonToSkip } from "../support/toolchain.js";
import { waitFor } from "../support/wait-for.js";

const minioTool = await minioBinary();
const wirings: Wiring[] = ["one process", "apart"];
const releaseUrl = "http://release.example/down/software.cfg";

interface GraphQLError {
  message: string;
  extensions: { code: string; retryable?: boolean; serviceName?: string };
}

interface Result {
  data?: Record<string, unknown> | null;
  errors?: GraphQLError[];
}

interface PartitionChange {
  to: string;
  partition: { key: string; health: string | null };
}

describe.skipIf(reasonToSkip(minioTool) !== null).each(wirings)("%s", (wiring) => {
  let system: RunningSystem;
  let minio: MinioServer;
  let nodeToken: string;
  let pids: number[];
  const blob = randomBytes(300_000);
  const sha512 = createHash("sha512").update(blob).digest("hex");

  const ask = async (query: string): Promise<Result> => {
    const response = await fetch(`${system.gatewayUrl}/graphql`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${system.adminToken}` },
      body: JSON.stringify({ query }),
    });
    return (await response.json()) as Result;
  };
  const slap = (endpoint: string, fields: Record<string, string>) =>
    fetch(`${system.slapUrl}/k/${nodeToken}/${endpoint}`, { method: "POST", body: new URLSearchParams(fields) });
  const report = (endpoint: string) =>
    slap(endpoint, { computer_id: "COMP-1", computer_partition_id: "slappart0", error_log: "broken" });
  const upload = (bytes: Buffer) =>
    fetch(`${system.shacacheUrl}/k/${system.adminToken}/shacache`, { method: "POST", body: new Uint8Array(bytes) });
  const readiness = async (url: string) => {
    const response = await fetch(`${url}/readyz`);
    return { status: response.status, text: await response.text() };
  };

  beforeAll(async () => {
    if ("missing" in minioTool) return;
    minio = await startMinio(minioTool.binary);
    const { endpoint, accessKey, secretKey, bucket } = minio;
    system = await RunningSystem.start(
      {
        SLAPGRAPH_LOG_LEVEL: "silent",
        S3_ENDPOINT: endpoint,
        S3_ACCESS_KEY: accessKey,
        S3_SECRET_KEY: secretKey,
        S3_BUCKET: bucket,
      },
      wiring,
    );
    const { createComputer } = await system.graphql<{ createComputer: { credential: string } }>(
      `mutation { createComputer(input: { reference: "COMP-1" }) { credential }
        createSoftwareProduct(input: { name: "down", title: "Down" }) { userErrors { code } } }`,
    );
    nodeToken = createComputer.credential;
    const partition = { reference: "slappart0", tap: { name: "tap0" }, address_list: [] };
    const xml = dumps({ reference: "COMP-1", partition_list: [partition] });
    expect((await slap("loadComputerConfigurationFromXML", { xml })).status).toBe(200);
    await system.graphql(
      `mutation ($url: String!) { publishSoftwareRelease(input: { productName: "down", url: $url }) { userErrors { code } }
        requestInstance(input: { title: "web", releaseUrl: $url, computerReference: "COMP-1" }) { instance { reference } } }`,
      { url: releaseUrl },
    );
    expect((await upload(blob)).status).toBe(201);
    pids = system.pids;
  });

  afterAll(async () => {
    await system?.close();
    await minio?.close();
  });

  const fine = async () => {
    await system.untilReady();
    const result = await ask(
      `{ computer(reference: "COMP-1") { reference } partition(key: "COMP-1/slappart0") { state health instance { softwareRelease { product { name } } } }
        softwareProducts(first: 1) { edges { node { name } } } projects(first: 1) { edges { node { name } } }
        artifact(sha512: "${sha512}") { sizeBytes } }`,
    );
    expect(result.errors).toBeUndefined();
    expect(result.data).toMatchObject({
      partition: { instance: { softwareRelease: { product: { name: "down" } } } },
      artifact: { sizeBytes: blob.length },
    });
  };

  test("with the blob store stopped, only what needs its bytes is told to try again, and all recovers by itself", async () => {
    await minio.kill();
    for (const response of [await upload(randomBytes(10)), await fetch(`${system.shacacheUrl}/shacache/${sha512}`)]) {
      expect(response.status).toBe(503);
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
    }
    const { data, errors } = await ask(
      `{ artifact(sha512: "${sha512}") { sizeBytes } computers(first: 1) { edges { cursor } } }`,
    );
    expect([data?.artifact, errors]).toEqual([{ sizeBytes: blob.length }, undefined]);
    expect((await report("startedComputerPartition")).status).toBe(200);
    expect(await readiness(system.shacacheUrl)).toMatchObject({
      status: 503,
      text: expect.stringContaining("blob store"),
    });
    expect((await readiness(system.slapUrl)).status).toBe(200);
    await minio.start();
    await fine();
    expect((await fetch(`${system.shacacheUrl}/shacache/${sha512}`)).status).toBe(200);
    expect(system.pids).toEqual(pids);
  });

  test("with the database stopped, every answer that needs it says try again, readiness tells, and all recovers by itself", async () => {
    const subscriber = new Subscriber<PartitionChange>();
    const follow = () =>
      subscriber.followWebSocket(
        system.gatewayUrl,
        system.adminToken,
        "partitionStateChanged",
        "subscription ($after: String) { partitionStateChanged(after: $after) { cursor change { to partition { key health } } } }",
      );
    follow();
    await waitFor(() => subscriber.isOpen, { what: "the open stream" });
    // Without this file no postmaster starts, so that the database stays away until it is back.
    const file = path.join(system.dataDir, wiring === "apart" ? "database" : "postgres", "PG_VERSION");
    expect(existsSync(file)).toBe(true);
    renameSync(file, `${file}.away`);
    process.kill(system.postgresPid, "SIGKILL");
    await waitFor(() => readiness(system.gatewayUrl), { until: ({ status }) => status === 503, what: "not ready" });

    for (const query of [
      '{ computer(reference: "COMP-1") { reference } }',
      "{ softwareProducts(first: 1) { edges { cursor } } }",
      'mutation { createComputer(input: { reference: "COMP-2" }) { credential } }',
    ]) {
      const { errors } = await ask(query);
      expect(
        errors?.map(({ extensions }) => [extensions.code, extensions.retryable]),
        query,
      ).toEqual([["UNAVAILABLE", true]]);
    }
    for (const response of [
      await report("startedComputerPartition"),
      await fetch(`${system.shacacheUrl}/shadir/any`),
    ]) {
      expect(response.status).toBe(503);
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(await response.text()).toContain("UNAVAILABLE");
    }
    for (const url of [system.gatewayUrl, system.slapUrl, system.shacacheUrl])
      expect(await readiness(url)).toMatchObject({ status: 503, text: expect.stringMatching(/database|answer/) });

    renameSync(`${file}.away`, file);
    await fine();
    expect(system.pids).toEqual(pids);
    // Its stream may have ended meanwhile, with "try again": then it resumes where it was.
    const errors = subscriber.errors as GraphQLError[];
    expect(errors.filter(({ extensions }) => extensions?.code !== "UNAVAILABLE")).toEqual([]);
    if (!subscriber.isOpen) follow();
    expect((await report("softwareInstanceError")).status).toBe(200);
    await waitFor(() => subscriber.changes.at(-1)?.to, { until: (to) => to === "ERROR", what: "the event after it" });
    subscriber.cut();
  });

  // In one process a subgraph does not stop by itself.
  if (wiring === "apart")
    describe("with one subgraph stopped", () => {
      const away = (name: string): GraphQLError => ({
        message: expect.stringContaining(name) as never,
        extensions: expect.objectContaining({ code: "UNAVAILABLE", retryable: true, serviceName: name }) as never,
      });
      const cases = [
        {
          name: "catalog",
          query: `{ partition(key: "COMP-1/slappart0") { key instance { title softwareRelease { url product { name } } } } }`,
          data: {
            partition: {
              key: "COMP-1/slappart0",
              instance: { title: "web", softwareRelease: { url: releaseUrl, product: null } },
            },
          },
        },
        {
          name: "monitoring",
          query: `{ partition(key: "COMP-1/slappart0") { key health lastBang { message } instance { title } } }`,
          data: { partition: { key: "COMP-1/slappart0", health: null, lastBang: null, instance: { title: "web" } } },
        },
        {
          name: "identity",
          query: `{ projects(first: 1) { edges { node { name } } } computer(reference: "COMP-1") { reference } }`,
          data: { projects: null, computer: { reference: "COMP-1" } },
        },
        {
          name: "computer",
          query: `{ computers(first: 1) { edges { cursor } } softwareProducts(first: 1) { edges { node { name } } } }`,
          data: { computers: null, softwareProducts: { edges: [{ node: { name: "down" } }] } },
        },
        {
          name: "shacache",
          query: `{ artifact(sha512: "${sha512}") { sizeBytes } computer(reference: "COMP-1") { reference } }`,
          data: { artifact: null, computer: { reference: "COMP-1" } },
        },
      ];

      test.each(cases)(
        "$name: the rest is answered, its own fields are null with an error that names it",
        async ({ name, query, data }) => {
          await system.kill(name);
          const result = await ask(query);
          expect(result.data).toEqual(data);
          expect(result.errors).toEqual([expect.objectContaining(away(name))]);
          expect(await readiness(system.gatewayUrl)).toMatchObject({
            status: 503,
            text: expect.stringContaining(name),
          });
          system.spawn();
          await fine();
        },
      );

      test("nodes of several owners: an owner that is away costs its own, not the others", async () => {
        const id = (type: string, key: string) => Buffer.from(`${type}:${key}`).toString("base64url");
        const ids = [id("Computer", "COMP-1"), id("SoftwareProduct", "main/down")];
        await system.kill("catalog");
        const result = await ask(`{ nodes(ids: ${JSON.stringify(ids)}) { id } }`);
        expect(result.data).toEqual({ nodes: [{ id: ids[0] }, null] });
        expect(result.errors).toEqual([expect.objectContaining(away("catalog"))]);
        system.spawn();
        await fine();
      });

      test("a subscription goes on with the field null and its error for that event, and without either afterwards", async () => {
        const results: Result[] = [];
        const client = await openStream(results);
        await system.kill("monitoring");
        expect((await report("startedComputerPartition")).status).toBe(200);
        const during = await waitFor(() => results.find(changedTo("STARTED")), { what: "the event meanwhile" });
        expect(during?.data).toMatchObject({ partitionStateChanged: { change: { partition: { health: null } } } });
        expect(during?.errors).toEqual([expect.objectContaining(away("monitoring"))]);
        system.spawn();
        await fine();
        expect((await report("softwareInstanceError")).status).toBe(200);
        const after = await waitFor(() => results.find(changedTo("ERROR")), { what: "the event afterwards" });
        expect(after).toEqual({
          data: {
            partitionStateChanged: { change: { to: "ERROR", partition: { key: "COMP-1/slappart0", health: "RED" } } },
          },
        });
        client.abort();
      });

      const changedTo = (state: string) => (result: Result) =>
        (result.data?.partitionStateChanged as { change: { to: string } | null } | undefined)?.change?.to === state;

      /** Every answer as it came, errors beside data. */
      async function openStream(results: Result[]): Promise<AbortController> {
        const abort = new AbortController();
        const response = await fetch(`${system.gatewayUrl}/graphql`, {
          method: "POST",
          signal: abort.signal,
          headers: {
            accept: "text/event-stream",
            "content-type": "application/json",
            authorization: `Bearer ${system.adminToken}`,
          },
          body: JSON.stringify({
            query: "subscription { partitionStateChanged { change { to partition { key health } } } }",
          }),
        });
        const read = async () => {
          let text = "";
          for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
            text += Buffer.from(chunk).toString("utf8");
            for (let end = text.indexOf("\n\n"); end !== -1; end = text.indexOf("\n\n")) {
              const data = /^data: (.+)$/m.exec(text.slice(0, end))?.[1];
              text = text.slice(end + 2);
              if (data) results.push(JSON.parse(data) as Result);
            }
          }
        };
        void read().catch(() => undefined);
        await waitFor(() => results.length > 0, { what: "the first bookmark" });
        return abort;
      }
    });
});
