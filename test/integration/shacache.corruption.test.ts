import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chunkBytes } from "../../shacache/chunk-digests.js";
import { openShacacheFixture, type ShacacheFixture, stores } from "../support/shacache-fixture.js";
import { waitFor } from "../support/wait-for.js";

const digestOf = (bytes: Buffer) => createHash("sha512").update(bytes).digest("hex");
const flip = (position: number) => (bytes: Buffer) => {
  bytes[position] = (bytes[position] ?? 0) ^ 4;
  return bytes;
};
const never = new AbortController().signal;

for (const { store, isSkipped } of stores) {
  describe.skipIf(isSkipped)(`bytes that changed at rest, on ${store}`, () => {
    let cache: ShacacheFixture;

    beforeAll(async () => {
      cache = await openShacacheFixture(store);
    });

    afterAll(() => cache?.close());

    const get = (sha512: string, headers?: Record<string, string>) =>
      cache.raw("GET", `/shacache/${sha512}`, undefined, headers);
    const stored = async (sizeBytes: number) => {
      const bytes = randomBytes(sizeBytes);
      const sha512 = digestOf(bytes);
      expect((await cache.upload(bytes)).body.toString()).toBe(sha512);
      return { bytes, sha512 };
    };
    const quarantined = async (sha512: string) =>
      (await cache.events("ArtifactQuarantined")).filter(({ subject }) => subject === sha512).length;

    test("a large blob breaks off before the corrupt chunk, is quarantined once, absent, and healed by an upload", async () => {
      const { bytes, sha512 } = await stored(12 * chunkBytes);
      await cache.corrupt(sha512, flip(10 * chunkBytes));
      const broken = await get(sha512);
      expect([broken.status, broken.isBroken]).toEqual([200, true]);
      expect(broken.body.equals(bytes.subarray(0, broken.body.length))).toBe(true);
      await waitFor(() => quarantined(sha512), { until: (count) => count === 1, what: "the event" });
      const absent = await get(sha512);
      expect([absent.status, absent.body.length]).toEqual([404, 0]);
      expect((await cache.upload(bytes)).status).toBe(201);
      expect((await get(sha512)).body.equals(bytes)).toBe(true);
      expect(await quarantined(sha512)).toBe(1);
    });

    test("a small blob that is corrupt is 404 at once, never a 200", async () => {
      const { bytes, sha512 } = await stored(5_000);
      await cache.corrupt(sha512, flip(4_999));
      expect((await get(sha512)).status).toBe(404);
      expect(await quarantined(sha512)).toBe(1);
      expect((await cache.storedNames()).filter((name) => name.includes(sha512))).toEqual([
        expect.stringContaining("quarantine/"),
      ]);
      expect((await cache.upload(bytes)).status).toBe(201);
    });

    test("a range over the corrupt chunk is not delivered, a range beside it is", async () => {
      const { bytes, sha512 } = await stored(3 * chunkBytes);
      await cache.corrupt(sha512, flip(chunkBytes + 7));
      const beside = await get(sha512, { range: `bytes=${2 * chunkBytes}-${2 * chunkBytes + 99}` });
      expect([beside.status, beside.body]).toEqual([206, bytes.subarray(2 * chunkBytes, 2 * chunkBytes + 100)]);
      expect((await get(sha512, { range: `bytes=${chunkBytes + 100}-${chunkBytes + 200}` })).status).toBe(404);
      expect((await get(sha512)).status).toBe(404);
    });

    test("bytes that are missing at the end or altogether are no blob either", async () => {
      const cut = await stored(2 * chunkBytes);
      await cache.corrupt(cut.sha512, (bytes) => bytes.subarray(0, chunkBytes + 5));
      expect((await get(cut.sha512)).isBroken).toBe(true);
      expect((await get(cut.sha512)).status).toBe(404);
      const gone = await stored(100);
      const [{ location } = { location: "" }] = await cache.rows<{ location: string }>(
        "select location from shacache.artifact where sha512 = $1",
        [gone.sha512],
      );
      await cache.services.blobs.remove(location);
      expect((await get(gone.sha512)).status).toBe(404);
      expect(await quarantined(gone.sha512)).toBe(1);
      expect((await cache.upload(gone.bytes)).status).toBe(201);
      expect((await get(gone.sha512)).body.equals(gone.bytes)).toBe(true);
    });

    test("HEAD finds no blob that is shorter than it was or gone, so that a push sends it again", async () => {
      const head = (sha512: string) => cache.raw("HEAD", `/shacache/${sha512}`);
      for (const lost of [(bytes: Buffer) => bytes.subarray(0, -1), (bytes: Buffer) => bytes.subarray(0, 0)]) {
        const { bytes, sha512 } = await stored(2 * chunkBytes);
        await cache.corrupt(sha512, lost);
        expect((await head(sha512)).status).toBe(404);
        expect(await quarantined(sha512)).toBe(1);
        expect((await cache.upload(bytes)).status).toBe(201);
        expect((await head(sha512)).headers["content-length"]).toBe(String(bytes.length));
      }
    });

    test("the scrub finds corruption that nobody has read, and leaves what is good", async () => {
      const good = await stored(3 * chunkBytes);
      const bad = await stored(3 * chunkBytes);
      await cache.corrupt(bad.sha512, flip(2 * chunkBytes));
      const result = await cache.services.scrub.run(never);
      expect(result.quarantined).toBe(1);
      expect(await quarantined(bad.sha512)).toBe(1);
      expect((await get(bad.sha512)).status).toBe(404);
      expect((await get(good.sha512)).body.equals(good.bytes)).toBe(true);
    });

    test("the scrub adopts a whole object that a crash left without a name, and removes a second copy of a blob", async () => {
      const { bytes, sha512 } = await stored(1_000);
      const options = { maxSizeBytes: 100_000 };
      const copy = await cache.services.blobs.receive(Readable.from([bytes]), options);
      const fresh = randomBytes(2_000);
      await cache.services.blobs.receive(Readable.from([fresh]), options);
      expect((await get(digestOf(fresh))).status).toBe(404);
      expect((await cache.services.scrub.run(never)).adopted).toBe(0);
      expect((await cache.services.scrub.run(never, 0)).adopted).toBe(1);
      expect((await get(digestOf(fresh))).body.equals(fresh)).toBe(true);
      expect(await cache.services.blobs.stat(copy.location)).toBeNull();
      expect((await get(sha512)).body.equals(bytes)).toBe(true);
    });

    test("a blob that an older version stored without digests of its chunks is checked when it is first read", async () => {
      const good = await stored(2 * chunkBytes);
      const bad = await stored(2 * chunkBytes);
      await cache.rows("update shacache.artifact set chunk_key = null, chunk_tags = null where sha512 = any ($1)", [
        [good.sha512, bad.sha512],
      ]);
      await cache.corrupt(bad.sha512, flip(2 * chunkBytes - 1));
      expect((await get(good.sha512)).body.equals(good.bytes)).toBe(true);
      expect((await get(bad.sha512)).status).toBe(404);
    });
  });
}
