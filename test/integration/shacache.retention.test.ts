import { createHash, randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { administrator, nodeOf, person } from "../support/services.js";
import { openShacacheFixture, type ShacacheFixture, stores } from "../support/shacache-fixture.js";
import { waitFor } from "../support/wait-for.js";

const dayMs = 86_400_000;
const inDays = (days: number) => new Date(Date.now() + days * dayMs);
const releaseUrl = "http://example/software.cfg";
const owner = person("olga", "OWNER");

for (const { store, isSkipped } of stores) {
  describe.skipIf(isSkipped)(`what is kept and what goes, on ${store}`, () => {
    let cache: ShacacheFixture | undefined;

    const opened = async () => {
      cache ??= await openShacacheFixture(store);
      return cache;
    };

    beforeEach(async () => {
      const { rows } = await opened();
      await rows("truncate shacache.artifact, shacache.directory_entry, shacache.cache_policy, shacache.release_use");
    });

    afterAll(async () => cache?.close());

    const stored = async (): Promise<string> => {
      const bytes = randomBytes(500);
      expect((await (await opened()).upload(bytes)).status).toBe(201);
      return createHash("sha512").update(bytes).digest("hex");
    };
    const entered = async (key: string, sha512: string, more: object = {}) => {
      const body = JSON.stringify([JSON.stringify({ sha512, ...more, n: randomBytes(4).toString("hex") }), ""]);
      expect((await (await opened()).put(key, body)).status).toBe(201);
    };
    const setPolicy = async (policy: string) => {
      const { graphql } = await opened();
      const mutation = `mutation { setCachePolicy(input: { ${policy} }) { userErrors { code message } } }`;
      expect(await graphql(mutation)).toEqual({ setCachePolicy: { userErrors: [] } });
    };
    const statusOf = async (sha512: string) => (await (await opened()).raw("GET", `/shacache/${sha512}`)).status;
    const raw = async (method: string, sha512: string) => (await opened()).raw(method, `/shacache/${sha512}`);
    const collect = async (time: Date) => (await opened()).services.retention.collect("test", time);
    /** A collection that waits, in its middle, for a transaction which has run a statement about a blob. */
    const collectBehind = async (statement: string, sha512: string) => {
      const { databaseUrl, rows } = await opened();
      const holding = new Client({ connectionString: databaseUrl });
      await holding.connect();
      await holding.query("begin");
      await holding.query(statement, [sha512]);
      const collecting = collect(inDays(0));
      await waitFor(() => rows("select 1 from pg_locks where not granted"), {
        until: (waiting) => waiting.length > 0,
        what: "the collection waiting",
      });
      const letGo = async () => {
        await holding.query("commit");
        await holding.end();
      };
      return { collecting, letGo };
    };
    test("without a rule nothing goes, however old it is", async () => {
      const sha512 = await stored();
      expect(await collect(inDays(10_000))).toEqual({ artifactCount: 0, sizeBytes: 0 });
      expect(await statusOf(sha512)).toBe(200);
    });

    test("what is older than the age goes with its bytes and entries, what was entered or stored since stays", async () => {
      await setPolicy("maxAgeDays: 10");
      const [old, renewed, uploaded] = [await stored(), await stored(), await stored()];
      await entered("old", old);
      const { rows, raw, storedNames } = await opened();
      await rows("update shacache.artifact set renewed_at = now() - interval '11 days'");
      await entered("renewed", renewed);
      const [{ location } = { location: "" }] = await rows<{ location: string }>(
        "select location from shacache.artifact where sha512 = $1",
        [old],
      );
      await rows("update shacache.artifact set renewed_at = now() where sha512 = $1", [uploaded]);
      expect(await collect(inDays(0))).toEqual({ artifactCount: 1, sizeBytes: 500 });
      expect([await statusOf(old), await statusOf(renewed), await statusOf(uploaded)]).toEqual([404, 200, 200]);
      expect((await raw("GET", "/shadir/old")).status).toBe(404);
      expect((await storedNames()).some((name) => name.includes(location))).toBe(false);
    });

    test("what nobody has read goes, what is read or probed stays, and the reading is no write", async () => {
      await setPolicy("maxUnreadDays: 30");
      const [unread, read] = [await stored(), await stored()];
      const { rows, services } = await opened();
      await rows(
        "update shacache.artifact set renewed_at = now() - interval '31 days', created_at = now() - interval '31 days'",
      );
      expect(await statusOf(read)).toBe(200);
      const readAt = () => rows("select last_read_at, read_count from shacache.artifact where sha512 = $1", [read]);
      expect(await readAt()).toEqual([{ last_read_at: null, read_count: "0" }]);
      await services.reads.flush();
      expect(await readAt()).toEqual([{ last_read_at: expect.any(Date), read_count: "1" }]);
      expect(await collect(inDays(0))).toMatchObject({ artifactCount: 1 });
      expect([await statusOf(unread), await statusOf(read)]).toEqual([404, 200]);
    });

    test("of a key the newest stay, and a blob goes only when all of its entries are beyond them", async () => {
      await setPolicy("newestPerKey: 2");
      const blobs = [await stored(), await stored(), await stored(), await stored()];
      for (const sha512 of blobs) await entered("key", sha512);
      await entered("elsewhere", blobs[1] ?? "");
      const without = await stored();
      expect(await collect(inDays(1))).toMatchObject({ artifactCount: 1 });
      expect(await Promise.all(blobs.map(statusOf))).toEqual([404, 200, 200, 200]);
      expect(await statusOf(without)).toBe(200);
      const entries = JSON.parse((await (await opened()).raw("GET", "/shadir/key")).body.toString()) as string[][];
      expect(entries.map(([text]) => (JSON.parse(text ?? "") as { sha512: string }).sha512)).toEqual([
        blobs[3],
        blobs[2],
      ]);
    });

    test("pins, pinned entries and what an active release refers to stay, and go when nothing holds them any more", async () => {
      await setPolicy("maxAgeDays: 1");
      const [pinned, entry, released, installed, free] = [
        await stored(),
        await stored(),
        await stored(),
        await stored(),
        await stored(),
      ];
      await entered("pinned-entry", entry);
      await entered("released", released, { software_url: releaseUrl });
      await entered("installed", installed, { software_url: "http://example/other.cfg" });
      const { graphql, resources, rows, services } = await opened();
      const [row] = await rows<{ id: string }>("select id from shacache.directory_entry where key = 'pinned-entry'");
      const id = Buffer.from(`DirectoryEntry:${row?.id}`).toString("base64url");
      const pin = (verb: string) =>
        graphql(
          `mutation ($sha512: String!, $id: String!) {
             ${verb}Artifact(input: { sha512: $sha512 }) { userErrors { code } }
             ${verb}DirectoryEntry(input: { id: $id }) { userErrors { code } } }`,
          { sha512: pinned, id },
          owner,
        );
      await pin("pin");
      const say = (kind: string, subject: string, payload: object) =>
        resources.eventLog.transact(resources.eventLog.orm, (_, append) =>
          append({ kind, subject, project: "main", actor: "test", payload: { ...payload } }),
        );
      const uses = () => rows<{ url: string }>("select url, holder from shacache.release_use order by url");
      await say("SoftwareReleasePublished", releaseUrl, {});
      const installation = { url: "http://example/other.cfg", computer: "COMP-1", requested: "AVAILABLE" };
      await say("InstallationStateChanged", "COMP-1 http://example/other.cfg", installation);
      await waitFor(uses, { until: (held) => held.length === 2, what: "the uses" });

      expect(await collect(inDays(5))).toMatchObject({ artifactCount: 1 });
      expect(await Promise.all([pinned, entry, released, installed, free].map(statusOf))).toEqual([
        200, 200, 200, 200, 404,
      ]);

      await pin("unpin");
      await say("SoftwareReleaseWithdrawn", releaseUrl, {});
      await say("InstallationStateChanged", "COMP-1 x", { ...installation, requested: "DESTROYED" });
      await waitFor(uses, { until: (held) => held.length === 0, what: "no uses" });
      await services.reads.flush();
      expect(await collect(inDays(5))).toMatchObject({ artifactCount: 4 });
    });

    test("a preview says what would go by which rule, and is what then goes", async () => {
      await setPolicy("maxAgeDays: 10, newestPerKey: 1");
      const [old, retired, kept] = [await stored(), await stored(), await stored()];
      await entered("key", retired);
      await entered("key", kept);
      const { graphql, rows } = await opened();
      await rows("update shacache.artifact set renewed_at = now() - interval '2 hours'");
      await rows("update shacache.artifact set renewed_at = now() - interval '11 days' where sha512 = $1", [old]);
      const preview = async () => {
        const query = `{ retentionPreview { artifactCount sizeBytes
          artifacts(first: 10) { edges { node { rule artifact { sha512 } } } } } }`;
        const { retentionPreview } = await graphql<{
          retentionPreview: {
            artifactCount: number;
            sizeBytes: number;
            artifacts: { edges: { node: { rule: string; artifact: { sha512: string } } }[] };
          };
        }>(query);
        const { artifacts, ...totals } = retentionPreview;
        return { totals, rules: new Map(artifacts.edges.map(({ node }) => [node.artifact.sha512, node.rule])) };
      };
      const both = { artifactCount: 2, sizeBytes: 1_000 };
      expect(await preview()).toEqual({
        totals: both,
        rules: new Map([
          [old, "AGE"],
          [retired, "NEWEST_PER_KEY"],
        ]),
      });
      expect(await statusOf(kept)).toBe(200);
      const mutation =
        "mutation { collectArtifacts(input: {}) { project artifactCount sizeBytes userErrors { code } } }";
      expect(await graphql(mutation)).toEqual({ collectArtifacts: { project: "main", ...both, userErrors: [] } });
      expect(await preview()).toEqual({ totals: { artifactCount: 0, sizeBytes: 0 }, rules: new Map() });
    });

    test("what was read a moment ago is not announced to go", async () => {
      await setPolicy("maxUnreadDays: 5");
      const sha512 = await stored();
      const { graphql, rows } = await opened();
      await rows("update shacache.artifact set renewed_at = now() - interval '9 days'");
      const preview = () => graphql("{ retentionPreview { artifactCount } }");
      expect(await preview()).toEqual({ retentionPreview: { artifactCount: 1 } });
      expect(await statusOf(sha512)).toBe(200);
      expect(await preview()).toEqual({ retentionPreview: { artifactCount: 0 } });
      expect(await collect(inDays(0))).toMatchObject({ artifactCount: 0 });
    });

    test("an entry that arrives in the middle of a collection keeps its blob", async () => {
      await setPolicy("maxAgeDays: 1");
      const sha512 = await stored();
      const { rows } = await opened();
      await rows("update shacache.artifact set renewed_at = now() - interval '9 days'");
      // What a directory PUT does first in its transaction, which has not committed when the collection comes to the blob.
      const statement = "update shacache.artifact set renewed_at = now() where sha512 = $1";
      const { collecting, letGo } = await collectBehind(statement, sha512);
      await letGo();
      expect(await collecting).toEqual({ artifactCount: 0, sizeBytes: 0 });
      expect(await statusOf(sha512)).toBe(200);
    });

    test("who asks for a blob while a collection takes it away does not find it, and sends it again", async () => {
      await setPolicy("maxAgeDays: 1");
      const sha512 = await stored();
      await entered("key", sha512);
      const { rows } = await opened();
      await rows("update shacache.artifact set renewed_at = now() - interval '9 days'");
      // The collection has decided when it comes to the blob's entries.
      const statement = "select 1 from shacache.directory_entry where sha512 = $1 for update";
      const { collecting, letGo } = await collectBehind(statement, sha512);
      const asked = Promise.all(["GET", "HEAD"].map(async (method) => (await raw(method, sha512)).status));
      await delay(100);
      await letGo();
      expect(await asked).toEqual([404, 404]);
      expect(await collecting).toMatchObject({ artifactCount: 1 });
    });

    test("a blob that was probed since the collection began is kept for the entry that will follow", async () => {
      await setPolicy("maxAgeDays: 1");
      const sha512 = await stored();
      const { rows, services } = await opened();
      await rows("update shacache.artifact set renewed_at = now() - interval '9 days'");
      expect(await statusOf(sha512)).toBe(200);
      expect(await collect(inDays(0))).toMatchObject({ artifactCount: 0 });
      await services.reads.flush();
      expect(await collect(inDays(0))).toMatchObject({ artifactCount: 0 });
      expect(await collect(inDays(1))).toMatchObject({ artifactCount: 1 });
    });

    test("artifacts are listed by filters and counted, to the members of their project and nobody else", async () => {
      const [plain, entry] = [await stored(), await stored()];
      await entered("listed", entry, { software_url: releaseUrl });
      expect(await statusOf(entry)).toBe(200);
      expect(await statusOf("0".repeat(128))).toBe(404);
      const { graphql, services } = await opened();
      await services.reads.flush();
      const list = async (filter: string, caller = administrator) => {
        const query = `{ artifacts(first: 10, filter: { ${filter} }) { edges { node { sha512 readCount releases { url } } } } }`;
        const data = await graphql<{ artifacts: { edges: { node: { sha512: string } }[] } }>(query, {}, caller);
        return data.artifacts.edges.map(({ node }) => node.sha512).toSorted();
      };
      const both = [plain, entry].toSorted();
      expect(await list("")).toEqual(both);
      expect(await list('key: "listed"')).toEqual([entry]);
      expect(await list(`releaseUrl: "${releaseUrl}"`)).toEqual([entry]);
      expect(await list('uploadedBy: "administrator", minSizeBytes: 500, isPinned: false')).toEqual(both);
      expect(await list("minSizeBytes: 501")).toEqual([]);
      expect(await list(`unreadSince: "${new Date(Date.now() - 60_000).toISOString()}"`)).toEqual([plain]);
      expect(await list("", owner)).toEqual(both);
      expect(await list("", person("eve", "OWNER", "other"))).toEqual([]);
      const node = nodeOf("COMP-1");
      expect(await list("", node)).toEqual([]);
      const totals =
        "{ cacheStatistics { artifactCount sizeBytes entryCount hits misses hitRate sentBytes scrub { finishedAt } } }";
      const counted = await graphql<{ cacheStatistics: { hits: number; misses: number; hitRate: number } }>(totals);
      expect(counted.cacheStatistics).toMatchObject({ artifactCount: 2, sizeBytes: 1_000, entryCount: 1 });
      const { hits, misses, hitRate } = counted.cacheStatistics;
      expect([hits > 0, misses > 0, hitRate]).toEqual([true, true, hits / (hits + misses)]);
      expect(await graphql(totals, {}, node)).toEqual({ cacheStatistics: null });
    });
  });
}
