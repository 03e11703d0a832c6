import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Caller } from "../../common/identity.js";
import { adminToken } from "../support/database.js";
import { person } from "../support/services.js";
import { openShacacheFixture, type ShacacheFixture } from "../support/shacache-fixture.js";
import { createSigningKey, type SigningKey } from "../support/signing-key.js";

const sha512 = createHash("sha512").update("a blob").digest("hex");
const owner = person("olga", "OWNER");
const viewer = person("vera", "VIEWER");
const stranger = person("eve", "OWNER", "other");

let cache: ShacacheFixture;

beforeAll(async () => {
  cache = await openShacacheFixture("files");
});

afterAll(() => cache?.close());

const read = async (key: string) =>
  JSON.parse((await cache.raw("GET", `/shadir/${key}`)).body.toString()) as string[][];

describe("keys", () => {
  const hostile = [
    "a+b",
    "a b".replace(" ", "%20"),
    "..",
    "../shacache",
    "a/../b",
    "a%2eb",
    "a%2Eb",
    "a.b",
    "back\\slash",
    "pypi:name=1,<2>[3]",
    'quote"brace{}`^|',
    "//double//",
    "trailing/",
    "x?y=z&y=w",
    "%00",
    "%",
    "k".repeat(8_000),
  ];

  test("each stands for itself alone, as it came in the request", async () => {
    for (const [number, key] of hostile.entries())
      expect((await cache.put(key, JSON.stringify([`{"n":${number}}`, ""]))).status, key).toBe(201);
    for (const [number, key] of hostile.entries()) expect(await read(key), key).toEqual([[`{"n":${number}}`, ""]]);
    const kept = await cache.rows<{ key: string }>("select key from shacache.directory_entry order by sequence");
    expect(kept.map(({ key }) => key)).toEqual(hostile);
  });

  test("one that is longer than any client's is refused with the reason, or by its length alone", async () => {
    const refused = await cache.put("k".repeat(10_000), '["{}", ""]');
    expect([refused.status, refused.body.toString()]).toEqual([400, expect.stringContaining("A key has 1 to 8192")]);
    expect((await cache.raw("GET", `/shadir/${"k".repeat(10_000)}`)).status).toBe(404);
    expect((await cache.put("k".repeat(40_000), '["{}", ""]')).status).toBe(431);
  });
});

describe("entries", () => {
  test("bodies come back byte for byte, spaces, escapes and line breaks in signatures included", async () => {
    const bodies = [
      `[ "{\\"sha512\\": \\"${sha512}\\"}" ,\n "" ]`,
      '["\\u00e9 é \\ud83d\\ude00 \\u0000", "c2lnbmF0dXJl\\nYnJva2Vu\\n"]',
      '["entry_json_data","signature_data"]',
    ];
    for (const body of bodies) expect((await cache.put("bytes", body)).status).toBe(201);
    expect((await cache.raw("GET", "/shadir/bytes")).body.toString()).toBe(`[${bodies.toReversed().join(", ")}]`);
  });

  test("an identical PUT again, also twenty at once, is one entry in its old place", async () => {
    const [first, second] = ['["first", ""]', '["second", ""]'];
    await cache.put("once", first);
    await cache.put("once", second);
    const again = await Promise.all(Array.from({ length: 20 }, () => cache.put("once", first)));
    expect(again.map(({ status }) => status)).toEqual(Array(20).fill(201));
    expect(await read("once")).toEqual([
      ["second", ""],
      ["first", ""],
    ]);
  });

  test("of 500 entries put at once under a key none is lost, and the newest hundred are read", async () => {
    const numbers = Array.from({ length: 500 }, (_, number) => number);
    for (let start = 0; start < 500; start += 50)
      await Promise.all(numbers.slice(start, start + 50).map((number) => cache.put("many", `["${number}", ""]`)));
    const [count] = await cache.rows("select count(*)::int as count from shacache.directory_entry where key = 'many'");
    expect(count).toEqual({ count: 500 });
    const answered = (await read("many")).map(([text]) => Number(text));
    expect(answered.length).toBe(100);
    expect(Math.min(...answered)).toBeGreaterThanOrEqual(400);
  });

  test("of entries put at once each is entered, and recorded as the command of its own request", async () => {
    const ids = Array.from({ length: 40 }, (_, number) => `at-once-${number}`);
    const token = { authorization: `Bearer ${adminToken}` };
    const put = (id: string) =>
      cache.raw("PUT", `/shadir/${id}`, Buffer.from('["{}", ""]'), { ...token, "x-request-id": id });
    const answers = await Promise.all(ids.map(put));
    expect(answers.map(({ status }) => status)).toEqual(Array(40).fill(201));
    const again = await Promise.all(ids.map(put));
    expect(again.map(({ status }) => status)).toEqual(Array(40).fill(201));
    const recorded = await cache.rows<{ request_id: string; key: string }>(
      `select request_id, entry.key from event_log.audit_record join shacache.directory_entry as entry
         on left(entry.id, 128) = target and entry.key = request_id
       where request_id like 'at-once-%' order by entry.sequence`,
    );
    expect(recorded.map(({ request_id }) => request_id).toSorted()).toEqual(ids.toSorted());
    expect(await Promise.all(ids.map(read))).toEqual(Array(40).fill([["{}", ""]]));
  });

  test("an entry that the store does not take is refused alone, others put at the same time are kept", async () => {
    const bodies = Array.from({ length: 24 }, (_, number) => JSON.stringify([`{"store":${number}}`, ""]));
    const [lost = ""] = bodies;
    const place = path.join(cache.folder, "records", "entries");
    mkdirSync(place, { recursive: true });
    // Where its record's folder would be made there is a file.
    const prefix = createHash("sha512").update(lost).digest("hex").slice(0, 2);
    const others = bodies.filter((body) => createHash("sha512").update(body).digest("hex").slice(0, 2) !== prefix);
    rmSync(path.join(place, prefix), { recursive: true, force: true });
    writeFileSync(path.join(place, prefix), "");
    const answers = await Promise.all([lost, ...others].map((body) => cache.put("store", body)));
    expect(answers[0]?.status).toBeGreaterThanOrEqual(500);
    expect(answers.slice(1).map(({ status }) => status)).toEqual(others.map(() => 201));
    expect((await read("store")).map((pair) => JSON.stringify(pair)).toSorted()).toEqual(others.toSorted());
    rmSync(path.join(place, prefix));
    expect((await cache.put("store", lost)).status).toBe(201);
  });

  test("what no database holds in the text of one entry keeps neither it nor others put at the same time away", async () => {
    const metadata = [String.raw`{"software_url":"\ud800"}`, String.raw`{"software_url":"\u0000"}`, "{}"];
    const bodies = metadata.map((text) => JSON.stringify([text, ""]));
    const answers = await Promise.all(bodies.map((body) => cache.put("texts", body)));
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
    expect((await read("texts")).length).toBe(3);
  });

  test("a read is bounded in bytes too", async () => {
    for (let number = 0; number < 8; number++)
      expect((await cache.put("fat", JSON.stringify([`${number}${"x".repeat(900_000)}`, ""]))).status).toBe(201);
    const answered = await read("fat");
    expect(answered.map(([text]) => text?.[0])).toEqual(["7", "6", "5", "4"]);
  });

  test("what is no pair of texts is 400 with the reason, what is too large 413, and nothing is kept", async () => {
    const bad: [body: string | Buffer, reason: string][] = [
      ["", "not JSON"],
      ["{", "not JSON"],
      ["null", "array of two texts"],
      ['["one"]', "array of two texts"],
      ['["a", 1]', "array of two texts"],
      ['["a", "b", "c"]', "array of two texts"],
      ['{"0": "a", "1": "b"}', "array of two texts"],
      [Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x2c, 0x22, 0x22, 0x5d]), "not UTF-8"],
      ['["a\u0000", ""]', "not JSON"],
    ];
    for (const [body, reason] of bad) {
      const refused = await cache.put("bad", body);
      expect([refused.status, refused.body.toString()], String(body)).toEqual([400, expect.stringContaining(reason)]);
    }
    expect((await cache.put("bad", JSON.stringify(["x".repeat(2_000_000), ""]))).status).toBe(413);
    expect((await cache.raw("GET", "/shadir/bad")).status).toBe(404);
  });
});

describe("signatures", () => {
  let trusted: SigningKey;
  let other: SigningKey;

  beforeAll(async () => {
    [trusted, other] = await Promise.all([createSigningKey("the builder"), createSigningKey("somebody")]);
  });

  const metadata = () => ({ sha512, software_url: "http://example/software.cfg", n: randomBytes(4).toString("hex") });

  const trust = async (certificate: string, caller?: Caller) =>
    (
      await cache.graphql<{
        trustCertificate: { trustedCertificate: { id: string } | null; userErrors: { code: string }[] };
      }>(
        "mutation ($certificate: String!) { trustCertificate(input: { certificate: $certificate }) { trustedCertificate { id } userErrors { code } } }",
        { certificate },
        caller,
      )
    ).trustCertificate;
  const shown = async (key: string, caller?: Caller) => {
    const query = `query ($key: String!) { directoryEntries(first: 10, key: $key) { edges { node {
      signature signedBy { title fingerprint } softwareRelease { url } } } } }`;
    const data = await cache.graphql<{
      directoryEntries: { edges: { node: { signature: string; signedBy: { title: string } | null } }[] };
    }>(query, { key }, caller);
    return data.directoryEntries.edges.map(({ node }) => node);
  };
  const setRule = (rule: "MARK" | "REFUSE") =>
    cache.graphql(`mutation { setCachePolicy(input: { untrustedEntries: ${rule} }) { userErrors { code } } }`);

  test("without a trusted certificate nothing is checked, whatever the rule", async () => {
    await setRule("REFUSE");
    expect((await cache.put("unchecked", other.entry(metadata()))).status).toBe(201);
    expect((await cache.put("unsigned", JSON.stringify([JSON.stringify(metadata()), ""]))).status).toBe(201);
    expect(await shown("unchecked")).toMatchObject([{ signature: "UNCHECKED", signedBy: null }]);
    expect(await shown("unsigned")).toMatchObject([{ signature: "UNSIGNED", signedBy: null }]);
    await setRule("MARK");
  });

  test("an entry says which of the trusted certificates signed it, also one that was put before it was trusted", async () => {
    await cache.put("signed", trusted.entry(metadata()));
    expect((await trust(trusted.certificate)).userErrors).toEqual([]);
    expect((await trust(trusted.certificate)).userErrors).toEqual([]);
    expect(await shown("signed")).toMatchObject([
      {
        signature: "TRUSTED",
        signedBy: { title: "CN=the builder" },
        softwareRelease: { url: "http://example/software.cfg" },
      },
    ]);
    expect(await shown("signed", stranger)).toMatchObject([{ signature: "TRUSTED", signedBy: null }]);
    expect(await shown("unchecked")).toMatchObject([{ signature: "UNTRUSTED", signedBy: null }]);
  });

  test("an old client's signature with line breaks is good, a signature over other text is not", async () => {
    const [text = "", signature = ""] = JSON.parse(trusted.entry(metadata())) as string[];
    await cache.put("broken-lines", JSON.stringify([text, signature.replaceAll(/.{76}/g, "$&\n")]));
    await cache.put("tampered", JSON.stringify([text.replace("example", "evil"), signature]));
    expect(await shown("broken-lines")).toMatchObject([{ signature: "TRUSTED" }]);
    expect(await shown("tampered")).toMatchObject([{ signature: "UNTRUSTED", signedBy: null }]);
  });

  test("marked entries are read like others; where untrusted ones are refused the client sees 403 and nothing is kept", async () => {
    expect((await cache.put("marked", other.entry(metadata()))).status).toBe(201);
    expect((await read("marked")).length).toBe(1);
    await setRule("REFUSE");
    const refused = await cache.put("refused", other.entry(metadata()));
    expect([refused.status, refused.body.toString()]).toEqual([403, expect.stringContaining("UNTRUSTED_SIGNATURE")]);
    expect((await cache.put("refused", '["{}", "no signature"]')).status).toBe(403);
    expect((await cache.raw("GET", "/shadir/refused")).status).toBe(404);
    expect((await cache.put("accepted", trusted.entry(metadata()))).status).toBe(201);
    await setRule("MARK");
  });

  test("only owners trust and distrust, certificates with RSA keys only, and what is distrusted is untrusted at once", async () => {
    expect((await trust(other.certificate, viewer)).userErrors).toMatchObject([{ code: "FORBIDDEN" }]);
    expect((await trust("nonsense", owner)).userErrors).toMatchObject([{ code: "BAD_USER_INPUT" }]);
    expect((await trust((await createSigningKey("ec", "elliptic")).certificate)).userErrors).toMatchObject([
      { code: "BAD_USER_INPUT" },
    ]);
    const { trustedCertificate } = await trust(trusted.certificate, owner);
    const distrust = (caller: Caller) =>
      cache.graphql<{ distrustCertificate: { userErrors: { code: string }[] } }>(
        "mutation ($id: String!) { distrustCertificate(input: { id: $id }) { userErrors { code } } }",
        { id: trustedCertificate?.id },
        caller,
      );
    expect((await distrust(stranger)).distrustCertificate.userErrors).toMatchObject([{ code: "NOT_FOUND" }]);
    expect((await distrust(viewer)).distrustCertificate.userErrors).toMatchObject([{ code: "FORBIDDEN" }]);
    expect((await distrust(owner)).distrustCertificate.userErrors).toEqual([]);
    expect(await shown("signed")).toMatchObject([{ signature: "UNCHECKED", signedBy: null }]);
  });
});
