import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BlobStore } from "../../shacache/blob-store.js";

export interface ContractStore {
  store: BlobStore;
  /** How many things the store holds, uploads that never ended included. */
  countObjects(): Promise<number>;
  close(): Promise<void>;
}

const limit = { maxSizeBytes: 256 * 1024 * 1024 };
const digest = (bytes: Buffer) => createHash("sha512").update(bytes).digest("hex");
const absent = "0".repeat(128);

/** What every blob store promises, whatever it stands on. */
export function describeBlobStore(name: string, skipped: boolean, open: () => Promise<ContractStore>): void {
  describe.skipIf(skipped)(`a blob store on ${name}`, () => {
    let opened: ContractStore;
    let store: BlobStore;

    beforeAll(async () => {
      opened = await open();
      store = opened.store;
    });

    afterAll(async () => {
      await store.close();
      await opened.close();
    });

    const put = (bytes: Buffer) => store.receive(Readable.from([bytes]), { ...limit, expectedSizeBytes: bytes.length });
    const read = async (sha512: string, range?: { start: number; end: number }) => {
      const blob = await store.open(sha512, range);
      return blob && buffer(blob.stream);
    };

    test("a blob is read back whole and in ranges under the digest of its bytes", async () => {
      const bytes = randomBytes(100_000);
      expect(await put(bytes)).toEqual({ sha512: digest(bytes), sizeBytes: bytes.length });
      expect(await read(digest(bytes))).toEqual(bytes);
      expect(await read(digest(bytes), { start: 1_000, end: 1_999 })).toEqual(bytes.subarray(1_000, 2_000));
      expect(await store.stat(digest(bytes))).toEqual({ sizeBytes: bytes.length });
    });

    test("an empty blob is a blob", async () => {
      const empty = Buffer.alloc(0);
      await store.receive(Readable.from([]), { ...limit, expectedSizeBytes: 0 });
      expect(await read(digest(empty))).toEqual(empty);
    });

    test("what is absent is null, and removing it is no error", async () => {
      expect(await store.open(absent)).toBeNull();
      expect(await store.stat(absent)).toBeNull();
      await store.remove(absent);
    });

    test("a blob of 40 MiB that comes in small chunks is stored whole", async () => {
      const bytes = randomBytes(40 * 1024 * 1024);
      const chunks = Array.from({ length: 640 }, (_, index) => bytes.subarray(index * 65_536, (index + 1) * 65_536));
      const { sha512 } = await store.receive(Readable.from(chunks), { ...limit, expectedSizeBytes: bytes.length });
      expect(sha512).toBe(digest(bytes));
      const stored = await read(sha512);
      expect(stored && digest(stored)).toBe(sha512);
    });

    test("a stream that breaks, is too long or too short leaves nothing", async () => {
      const before = await opened.countObjects();
      const bytes = randomBytes(1_000_000);
      const breaking = Readable.from(
        (async function* () {
          yield bytes;
          throw new Error("the client left");
        })(),
      );
      await expect(store.receive(breaking, { ...limit, expectedSizeBytes: 2_000_000 })).rejects.toThrow();
      await expect(
        store.receive(Readable.from([bytes]), { ...limit, expectedSizeBytes: 1_000_001 }),
      ).rejects.toMatchObject({
        code: "BAD_USER_INPUT",
      });
      await expect(
        store.receive(Readable.from([bytes]), { ...limit, expectedSizeBytes: 999_999 }),
      ).rejects.toMatchObject({
        code: "BAD_USER_INPUT",
      });
      await expect(store.receive(Readable.from([bytes]), { maxSizeBytes: 10 })).rejects.toMatchObject({
        code: "PAYLOAD_TOO_LARGE",
      });
      expect(await store.stat(digest(bytes))).toBeNull();
      expect(await opened.countObjects()).toBe(before);
    });

    test("a blob cannot be read before its last byte has come", async () => {
      const bytes = randomBytes(200_000);
      let finish: () => void = () => undefined;
      const held = new Promise<void>((resolve) => {
        finish = resolve;
      });
      const receiving = store.receive(
        Readable.from(
          (async function* () {
            yield bytes.subarray(0, 199_999);
            await held;
            yield bytes.subarray(199_999);
          })(),
        ),
        { ...limit, expectedSizeBytes: bytes.length },
      );
      expect(await store.open(digest(bytes))).toBeNull();
      finish();
      await receiving;
      expect(await read(digest(bytes))).toEqual(bytes);
    });

    test("identical uploads at once are one copy, and all succeed", async () => {
      const bytes = randomBytes(500_000);
      const before = await opened.countObjects();
      const received = await Promise.all(Array.from({ length: 6 }, () => put(bytes)));
      expect(new Set(received.map((one) => one.sha512))).toEqual(new Set([digest(bytes)]));
      expect(await opened.countObjects()).toBe(before + 1);
      expect(await read(digest(bytes))).toEqual(bytes);
    });

    test("a reader that leaves early does not break the store", async () => {
      const bytes = randomBytes(20 * 1024 * 1024);
      const { sha512 } = await put(bytes);
      const blob = await store.open(sha512);
      for await (const _ of blob?.stream ?? []) break;
      expect(blob?.stream.destroyed).toBe(true);
      expect((await read(sha512))?.length).toBe(bytes.length);
    });

    test("a removed blob is absent", async () => {
      const bytes = randomBytes(1_000);
      const { sha512 } = await put(bytes);
      await store.remove(sha512);
      expect(await store.open(sha512)).toBeNull();
    });
  });
}
