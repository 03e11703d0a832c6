import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runCommand } from "../support/command.js";
import { createTestDatabase } from "../support/database.js";
import { type MinioServer, s3Environment, startMinio } from "../support/minio-server.js";
import { rawRequest } from "../support/raw-request.js";
import { RunningSystem } from "../support/running-system.js";
import { administrator } from "../support/services.js";
import { openShacacheFixture, stores } from "../support/shacache-fixture.js";
import { minioBinary } from "../support/toolchain.js";
import { sha512Of } from "../support/upstream-cache.js";
import { waitFor } from "../support/wait-for.js";

const minio = await minioBinary();

/** Each of these starts the system again, which a busy machine takes its time for. */
const restartTimeoutMs = 180_000;

describe.each(stores)("the index made anew from the store alone, on $store", ({ store, isSkipped }) => {
  let system: RunningSystem;
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let server: MinioServer | undefined;
  let sql: Client;
  let node: string;

  const blobs = [0, 1, 5_000, 1_048_576, 3_000_000, 20_000_000].map((size) => randomBytes(size));
  const keys = ["plain", "a%2eb", "a.b", "..", "back\\slash", "pypi:x=1,<2>[3]"];

  beforeAll(async () => {
    if (isSkipped) return;
    database = await createTestDatabase();
    if (store === "MinIO" && "binary" in minio) server = await startMinio(minio.binary);
    system = await RunningSystem.start({
      SLAPGRAPH_LOG_LEVEL: "error",
      DATABASE_URL: database.url,
      ...s3Environment(server),
    });
    sql = new Client({ connectionString: database.url });
    await sql.connect();
    const created = await system.graphql<{ createComputer: { credential: string } }>(
      'mutation { createComputer(input: { reference: "COMP-1" }) { credential } }',
    );
    node = created.createComputer.credential;
    for (const bytes of blobs) expect((await upload(bytes)).status).toBe(201);
    for (const key of keys) for (const name of ["first", "second", "third"]) await enter(key, name);
    await system.graphql(
      `mutation { pinArtifact(input: { sha512: "${sha512Of(blobs[2]!)}" }) { userErrors { code } } }`,
    );
  });

  afterAll(async () => {
    await sql?.end();
    await system?.close();
    await server?.close();
    await database?.drop();
  });

  const upload = (bytes: Buffer, token = node) => rawRequest(system.shacacheUrl, "POST", `/k/${token}/shacache`, bytes);
  const get = async (bytes: Buffer) => rawRequest(system.shacacheUrl, "GET", `/shacache/${sha512Of(bytes)}`);
  const read = async (key: string) => (await rawRequest(system.shacacheUrl, "GET", `/shadir/${key}`)).body.toString();
  const enter = async (key: string, name: string) => {
    const body = Buffer.from(
      `["{\\"sha512\\":  \\"${sha512Of(blobs[3]!)}\\", \\"name\\": \\"${name} é\\"}",   "c2ln\\n"]`,
    );
    expect((await rawRequest(system.shacacheUrl, "PUT", `/k/${node}/shadir/${key}`, body)).status).toBe(201);
  };
  const reindex = () =>
    runCommand(["cache", "reindex"], {
      SLAPGRAPH_URL: `${system.gatewayUrl}/graphql`,
      SLAPGRAPH_TOKEN: system.adminToken,
    });
  async function dropIndex() {
    await system.stop();
    await sql.query("drop schema shacache cascade");
    await system.start();
  }

  test.skipIf(isSkipped)(
    "every blob and every entry is there again, in order and byte for byte",
    async () => {
      const before = await Promise.all(keys.map(read));
      await dropIndex();
      expect((await get(blobs[2]!)).status).toBe(404);
      expect(await Promise.all(keys.map(read))).not.toEqual(before);
      await enter("plain", "entered before the index was whole");

      const ended = await reindex();
      expect(ended).toMatchObject({ code: 0, stderr: "" });
      expect(ended.stdout).toMatch(/^6 blobs and 18 entries restored, /);
      for (const bytes of blobs) expect((await get(bytes)).body.equals(bytes), String(bytes.length)).toBe(true);
      const after = await Promise.all(keys.map(read));
      expect(after.slice(1)).toEqual(before.slice(1));
      const [newest, ...rest] = JSON.parse(after[0]!) as [string, string][];
      expect(newest?.[0]).toContain("entered before the index was whole");
      expect(rest).toEqual(JSON.parse(before[0]!));

      const { rows } = await sql.query(
        "select sha512, uploaded_by, is_pinned, chunk_tags is null as unchecked from shacache.artifact",
      );
      expect(rows.filter((row) => row.unchecked)).toEqual([]);
      expect(rows.filter((row) => row.is_pinned).map((row) => row.sha512)).toEqual([sha512Of(blobs[2]!)]);
      expect(rows.find((row) => row.sha512 === sha512Of(blobs[3]!)).uploaded_by).toBe("COMP-1");
      expect((await reindex()).stdout).toMatch(/^0 blobs and 0 entries restored, 0 bytes read/);
    },
    restartTimeoutMs,
  );

  test.skipIf(isSkipped)(
    "uploads go on meanwhile, of the same bytes too, and nothing is lost",
    async () => {
      const more = Array.from({ length: 30 }, (_, index) => randomBytes(2_000 + index));
      for (const bytes of more.slice(0, 15)) await upload(bytes);
      await dropIndex();
      // Four at a time, as a few nodes would, the same blobs twice.
      const waiting = [...more, ...blobs, ...more];
      const uploadAll = async () => {
        for (let bytes = waiting.pop(); bytes; bytes = waiting.pop()) {
          const { status, body } = await upload(bytes);
          expect([status, body.toString()]).toEqual([201, sha512Of(bytes)]);
        }
      };
      const [ended] = await Promise.all([reindex(), uploadAll(), uploadAll(), uploadAll(), uploadAll()]);
      expect(ended).toMatchObject({ code: 0 });
      for (const bytes of [...blobs, ...more]) expect((await get(bytes)).body.equals(bytes)).toBe(true);
      await reindex();
      const { rows } = await sql.query<{ count: string }>("select count(*) as count from shacache.artifact");
      expect(Number(rows[0]?.count)).toBe(blobs.length + more.length);
    },
    restartTimeoutMs,
  );

  test.skipIf(isSkipped)(
    "a run that is killed in the middle goes on at the next start",
    async () => {
      await dropIndex();
      void reindex();
      const wanted = async () => (await sql.query("select started_at from shacache.reindex")).rows[0]?.started_at;
      await waitFor(wanted);
      await system.kill();
      await system.start();
      expect(await reindex()).toMatchObject({ code: 0 });
      for (const bytes of blobs) expect((await get(bytes)).body.equals(bytes)).toBe(true);
      for (const key of keys) expect(JSON.parse(await read(key)).length, key).toBeGreaterThanOrEqual(3);
    },
    restartTimeoutMs,
  );

  test.skipIf(isSkipped)(
    "dropped tables of the index are made again as they were, by the command and by a start",
    async () => {
      const shape = async () =>
        (
          await sql.query(
            `select table_name, column_name, data_type, is_nullable, column_default, collation_name, attstorage::text as storage
             from information_schema.columns join pg_attribute on attname = column_name
               and attrelid = (table_schema || '.' || table_name)::regclass where table_schema = 'shacache'
             union all select tablename, indexname, indexdef, null, null, null, null from pg_indexes where schemaname = 'shacache'
             order by 1, 2`,
          )
        ).rows;
      const before = await shape();
      await sql.query("drop table shacache.artifact, shacache.directory_entry");
      expect(await reindex()).toMatchObject({ code: 0 });
      expect(await shape()).toEqual(before);
      for (const bytes of blobs) expect((await get(bytes)).body.equals(bytes)).toBe(true);
      for (const key of keys) expect(JSON.parse(await read(key)).length, key).toBeGreaterThanOrEqual(3);
      await system.stop();
      await sql.query("drop table shacache.artifact");
      await system.start();
      expect(await shape()).toEqual(before);
      expect(await reindex()).toMatchObject({ code: 0 });
      for (const bytes of blobs) expect((await get(bytes)).body.equals(bytes)).toBe(true);
    },
    restartTimeoutMs,
  );

  test.skipIf(isSkipped)("it is the administrator's alone", async () => {
    const ended = await runCommand(["cache", "reindex"], {
      SLAPGRAPH_URL: `${system.gatewayUrl}/graphql`,
      SLAPGRAPH_TOKEN: node,
    });
    expect(ended).toMatchObject({ code: 1, stderr: expect.stringContaining("FORBIDDEN") });
  });
});

describe.each(stores)("what the index is made from, on $store", ({ store, isSkipped }) => {
  test.skipIf(isSkipped)("what was collected does not come back, and what an older version entered does", async () => {
    const shacache = await openShacacheFixture(store);
    const { services, rows, upload, put, graphql, raw } = shacache;
    const [gone, kept] = [randomBytes(100), randomBytes(100)];
    for (const [key, bytes] of [
      ["gone", gone],
      ["kept", kept],
    ] as const) {
      await upload(bytes);
      await put(key, JSON.stringify([JSON.stringify({ sha512: sha512Of(bytes) }), ""]));
    }
    await graphql(`mutation { pinArtifact(input: { sha512: "${sha512Of(kept)}" }) { userErrors { code } } }`);
    await graphql("mutation { setCachePolicy(input: { maxAgeDays: 1 }) { userErrors { code } } }");
    const { artifactCount } = await services.retention.collect("test", new Date(Date.now() + 10 * 86_400_000));
    expect(artifactCount).toBe(1);
    // As an older version left it: the entry is in the index only.
    const [entry] = await rows<{ id: string }>("update shacache.directory_entry set is_recorded = false returning id");
    await services.blobs.records.remove(`entries/${entry?.id.replace(" ", ".")}`);
    await services.entries.recordOld(new AbortController().signal);

    await rows("truncate shacache.artifact, shacache.directory_entry");
    await services.reindex.request(administrator);
    await services.reindex.run(new AbortController().signal);
    expect(await services.reindex.state(administrator)).toMatchObject({
      restoredArtifacts: 1,
      restoredEntries: 1,
      failure: null,
    });
    const statusOf = async (target: string) => (await raw("GET", target)).status;
    expect(await statusOf(`/shacache/${sha512Of(gone)}`)).toBe(404);
    expect(await statusOf("/shadir/gone")).toBe(404);
    expect(await statusOf(`/shacache/${sha512Of(kept)}`)).toBe(200);
    expect(await statusOf("/shadir/kept")).toBe(200);
    await shacache.close();
  });

  test.skipIf(isSkipped)("a damaged record is left out and said, and the others are restored", async () => {
    const shacache = await openShacacheFixture(store);
    const { services, rows, put, raw } = shacache;
    for (const key of ["one", "two", "three"]) await put(key, '["{}", ""]');
    const names = (await rows<{ id: string }>("select id from shacache.directory_entry order by sequence")).map(
      ({ id }) => `entries/${id.replace(" ", ".")}`,
    );
    await services.blobs.records.put(names[0]!, "{");
    await services.blobs.records.put(names[1]!, JSON.stringify({ key: "two", body: '["{}", "forged"]' }));
    await rows("truncate shacache.directory_entry");
    await services.reindex.request(administrator);
    await services.reindex.run(new AbortController().signal);
    const { failure, restoredEntries } = (await services.reindex.state(administrator)) ?? {};
    expect([restoredEntries, failure]).toEqual([1, expect.stringContaining("2 records are damaged")]);
    expect((await raw("GET", "/shadir/three")).body.toString()).toBe('[["{}", ""]]');
    await shacache.close();
  });

  test.skipIf(isSkipped)("a blob that is corrupt at rest gets no name that it does not deserve", async () => {
    const shacache = await openShacacheFixture(store);
    const { services, rows, upload, corrupt, raw } = shacache;
    const bytes = randomBytes(30_000_000);
    await upload(bytes);
    await corrupt(sha512Of(bytes), (stored) =>
      Buffer.concat([stored.subarray(0, -1), Buffer.from([(stored.at(-1) ?? 0) ^ 1])]),
    );
    await rows("truncate shacache.artifact");
    await services.reindex.request(administrator);
    await services.reindex.run(new AbortController().signal);
    const named = await rows<{ sha512: string }>("select sha512 from shacache.artifact");
    expect(named.map(({ sha512 }) => sha512)).not.toContain(sha512Of(bytes));
    expect((await raw("HEAD", `/shacache/${sha512Of(bytes)}`)).status).toBe(404);
    await shacache.close();
  });
});
