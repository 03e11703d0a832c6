import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Caller } from "../../common/identity.js";
import { openShacacheFixture, type ShacacheFixture, stores } from "../support/shacache-fixture.js";
import { sha512Of } from "../support/upstream-cache.js";

const releaseUrl = "http://example.org/software.cfg";
const key = createHash("md5").update(releaseUrl).digest("hex");
const inMain = { project: "main", tokenId: "t", expiresAt: Number.POSITIVE_INFINITY };
const node = (subject: string, project = "main"): Caller => ({ ...inMain, kind: "node", subject, project });
const person = (role: "OWNER" | "USER" | "VIEWER", project = "main"): Caller => ({
  ...inMain,
  kind: "person",
  subject: "ann",
  role,
  project,
});

describe.each(stores)("what computers run, on $store", ({ store, isSkipped }) => {
  let shacache: ShacacheFixture;
  const [one, two, three] = [5_000, 6_000, 40_000_000].map((size) => randomBytes(size)) as [Buffer, Buffer, Buffer];
  const tokens = new Map<string, string>();

  beforeAll(async () => {
    if (isSkipped) return;
    shacache = await openShacacheFixture(store);
    for (const [computer, project] of [["A"], ["B"], ["C"], ["D"], ["FAR", "elsewhere"]] as [string, string?][]) {
      const claims = { kind: "node" as const, subject: computer, project: project ?? "main", lifetimeSeconds: 600 };
      tokens.set(computer, (await shacache.resources.tokens.issue(claims)).token);
    }
    // A built the release and brought it, as slapgrid does; so did B, with other bytes, and D for another system.
    await bring("A", one, ["debian", "12.1", "bookworm"]);
    await bring("B", two, ["debian", "12.4", "bookworm"]);
    await bring("D", three, ["ubuntu", "22.04", "jammy"]);
    await take("C", one);
    await take("FAR", two);
  });

  afterAll(() => shacache?.close());

  const as = (computer: string, method: string, target: string, body?: Buffer, headers?: Record<string, string>) =>
    shacache.raw(method, `/k/${tokens.get(computer)}${target}`, body, headers);
  const take = (computer: string, bytes: Buffer, headers?: Record<string, string>) =>
    as(computer, "GET", `/shacache/${sha512Of(bytes)}`, undefined, headers);
  const bring = async (computer: string, bytes: Buffer, os: string[]) => {
    const metadata = { software_url: releaseUrl, multiarch: "x86_64-linux-gnu", os, sha512: sha512Of(bytes) };
    expect((await as(computer, "POST", "/shacache", bytes)).status).toBe(201);
    const entry = Buffer.from(JSON.stringify([JSON.stringify(metadata), ""]));
    expect((await as(computer, "PUT", `/shadir/${key}`, entry)).status).toBe(201);
  };
  const idOf = (type: string, name: string) => Buffer.from(`${type}:${name}`).toString("base64url");

  async function artifactsOf(computer: string, caller?: Caller) {
    const source = `query ($id: ID!) { _entities(representations: [{ __typename: "Computer", id: $id }]) {
      ... on Computer { artifacts(first: 100) { edges { sha512 downloads uploads firstAt lastAt node { sizeBytes } } } } } }`;
    type Edge = {
      sha512: string;
      downloads: number;
      uploads: number;
      firstAt: string;
      node: { sizeBytes: number } | null;
    };
    const variables = { id: idOf("Computer", computer) };
    const { _entities } = await shacache.graphql<{ _entities: { artifacts: { edges: Edge[] } }[] }>(
      source,
      variables,
      caller,
    );
    return _entities[0]?.artifacts.edges ?? [];
  }

  async function computersOf(bytes: Buffer, caller?: Caller) {
    const source =
      "query ($sha512: String!) { artifact(sha512: $sha512) { computers(first: 100) { edges { node { id } } } } }";
    const { artifact } = await shacache.graphql<{ artifact: { computers: { edges: { node: { id: string } }[] } } }>(
      source,
      { sha512: sha512Of(bytes) },
      caller,
    );
    return artifact.computers.edges.map(({ node: { id } }) => Buffer.from(id, "base64url").toString().slice(9)).sort();
  }

  async function drift(caller?: Caller) {
    const source = `query ($release: String!) { cacheDrift(release: $release) { multiarch os
      variants { sha512 computerCount artifact { sizeBytes } computers(first: 10) { edges { node { id } } } } } }`;
    type Variant = { sha512: string; computerCount: number; computers: { edges: { node: { id: string } }[] } };
    const found = await shacache.graphql<{ cacheDrift: { os: string[]; multiarch: string; variants: Variant[] }[] }>(
      source,
      { release: releaseUrl },
      caller,
    );
    return found.cacheDrift.map(({ os, multiarch, variants }) => ({
      platform: [multiarch, ...os],
      variants: variants.map(({ sha512, computerCount, computers }) => [
        sha512,
        computerCount,
        computers.edges.map((edge) => Buffer.from(edge.node.id, "base64url").toString().slice(9)),
      ]),
    }));
  }

  test.skipIf(isSkipped)(
    "which computer took or brought which blob is known by its node's token, both ways",
    async () => {
      expect(await computersOf(one)).toEqual(["A", "C"]);
      expect(await computersOf(two)).toEqual(["B", "FAR"]);
      expect(await artifactsOf("A")).toMatchObject([
        { sha512: sha512Of(one), downloads: 0, uploads: 2, node: { sizeBytes: one.length } },
      ]);
      expect(await artifactsOf("C")).toMatchObject([{ sha512: sha512Of(one), downloads: 1, uploads: 0 }]);
    },
  );

  test.skipIf(isSkipped)("a probe, a part and a stranger's read are no taking; the last part is", async () => {
    await shacache.raw("GET", `/shacache/${sha512Of(three)}`);
    await take("A", three, { range: "bytes=0-99" });
    await as("A", "HEAD", `/shacache/${sha512Of(three)}`);
    await new Promise<void>((resolve, reject) => {
      const target = `${shacache.door.url}/k/${tokens.get("A")}/shacache/${sha512Of(three)}`;
      http.get(target, { agent: false }, (response) => resolve(void response.destroy())).on("error", reject);
    });
    expect(await computersOf(three)).toEqual(["D"]);
    await take("A", three, { range: "bytes=100-" });
    expect(await computersOf(three)).toEqual(["A", "D"]);
  });

  test.skipIf(isSkipped)(
    "drift is where computers of one system run different bytes, and goes when they agree",
    async () => {
      const debian = ["x86_64-linux-gnu", "debian", "12", ""];
      expect(await drift(person("VIEWER"))).toEqual([
        {
          platform: debian,
          variants: [
            [sha512Of(two), 1, ["B"]],
            [sha512Of(one), 1, ["C"]],
          ].sort(),
        },
      ]);
      await take("A", one);
      expect(await drift(person("VIEWER"))).toEqual([
        {
          platform: debian,
          variants: [
            [sha512Of(one), 2, ["A", "C"]],
            [sha512Of(two), 1, ["B"]],
          ],
        },
      ]);
      await take("B", one);
      expect(await drift(person("VIEWER"))).toEqual([]);
      // The administrator sees the other project's computer too, which still has the other bytes.
      expect(await drift()).toMatchObject([
        {
          variants: [
            [sha512Of(one), 3, ["A", "B", "C"]],
            [sha512Of(two), 1, ["FAR"]],
          ],
        },
      ]);
    },
  );

  test.skipIf(isSkipped)("what a caller may not see does not exist for it", async () => {
    expect(await computersOf(two, person("OWNER"))).toEqual(["B"]);
    expect(await computersOf(two, person("OWNER", "elsewhere"))).toEqual(["FAR"]);
    expect(await computersOf(two, node("B"))).toEqual(["B"]);
    expect(await computersOf(one, node("B"))).toEqual(["B"]);
    expect(await computersOf(one, { ...inMain, kind: "instance", subject: "SOFTINST-1" })).toEqual([]);
    expect(await artifactsOf("FAR", person("OWNER"))).toEqual([]);
    expect(await artifactsOf("A", node("B"))).toEqual([]);
    expect(await artifactsOf("B", node("B"))).toHaveLength(2);
    expect(await drift(node("B"))).toEqual([]);
    expect(await drift(person("OWNER", "elsewhere"))).toEqual([]);
    expect(await drift({ ...inMain, kind: "instance", subject: "SOFTINST-1" })).toEqual([]);
  });

  test.skipIf(isSkipped)(
    "reads cost no write of their own, and what could not be written is written later",
    async () => {
      const { taken } = shacache.services;
      await taken.flush();
      const before = (await artifactsOf("C"))[0]?.downloads ?? 0;
      for (let turn = 0; turn < 20; turn++) await take("C", one);
      await shacache.rows("alter table shacache.computer_artifact rename to away");
      await expect(taken.flush()).rejects.toThrow();
      await shacache.rows("alter table shacache.away rename to computer_artifact");
      expect((await artifactsOf("C"))[0]?.downloads).toBe(before + 20);
    },
  );
});
