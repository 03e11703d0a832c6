import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BlobStore, ByteRange, ReceivedBlob } from "../../shacache/blob-store.js";
import { chunkBytes } from "../../shacache/chunk-digests.js";
import { CorruptBlobError } from "../../shacache/indexed-blob.js";
import { openVerified } from "../../shacache/verified-read.js";

export interface ContractStore {
  store: BlobStore;
  /** How many things the store holds, uploads that never ended included. */
  countObjects(): Promise<number>;
  /** Changes one byte of an object behind the store's back. */
  corrupt(location: string, position: number): Promise<void>;
  truncate(location: string, sizeBytes: number): Promise<void>;
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
    const read = async ({ location, sizeBytes, digests }: ReceivedBlob, range?: ByteRange) => {
      const blob = await openVerified(store, { location, sizeBytes, digests }, range);
      try {
        if (blob === null) return null;
        const copies: Buffer[] = [];
        for await (const chunk of blob.chunks) copies.push(Buffer.from(chunk));
        return Buffer.concat(copies);
      } finally {
        await blob?.close();
      }
    };

    const storedLocations = async () => {
      const found: string[] = [];
      for await (const { location } of store.list()) found.push(location);
      return found;
    };

    test("a blob is read back whole and in ranges under the digest of its bytes", async () => {
      const bytes = randomBytes(100_000);
      const stored = await put(bytes);
      expect(stored).toMatchObject({ sha512: digest(bytes), sizeBytes: bytes.length });
      expect(await read(stored)).toEqual(bytes);
      expect(await read(stored, { start: 1_000, end: 1_999 })).toEqual(bytes.subarray(1_000, 2_000));
      expect(await store.stat(stored.location)).toEqual({ sizeBytes: bytes.length });
    });

    test("a range is the same bytes wherever it begins and ends among chunks and windows", async () => {
      const bytes = randomBytes(9 * chunkBytes + 17);
      const stored = await put(bytes);
      const edges = [
        0,
        1,
        chunkBytes - 1,
        chunkBytes,
        8 * chunkBytes - 1,
        8 * chunkBytes,
        9 * chunkBytes,
        bytes.length - 1,
      ];
      for (const start of edges) {
        for (const end of edges.filter((edge) => edge >= start)) {
          const part = await read(stored, { start, end });
          expect(part?.equals(bytes.subarray(start, end + 1)), `${start}-${end}`).toBe(true);
        }
      }
    });

    test("a byte that changed at rest is never yielded, and what is before its chunk is", async () => {
      const bytes = randomBytes(3 * chunkBytes);
      const stored = await put(bytes);
      await opened.corrupt(stored.location, 2 * chunkBytes + 5);
      const blob = await openVerified(store, stored);
      const yielded: Buffer[] = [];
      await expect(
        (async () => {
          for await (const chunk of blob?.chunks ?? []) yielded.push(Buffer.from(chunk));
        })(),
      ).rejects.toThrow(CorruptBlobError);
      await blob?.close();
      expect(Buffer.concat(yielded).equals(bytes.subarray(0, 2 * chunkBytes))).toBe(true);
      expect(await read(stored, { start: 5, end: 2 * chunkBytes - 1 })).toEqual(bytes.subarray(5, 2 * chunkBytes));
      await expect(read(stored, { start: 2 * chunkBytes + 900, end: 2 * chunkBytes + 901 })).rejects.toThrow(
        CorruptBlobError,
      );
    });

    test("a blob that was cut at rest is known at its end at the latest", async () => {
      const stored = await put(randomBytes(2 * chunkBytes));
      await opened.truncate(stored.location, chunkBytes);
      await expect(read(stored)).rejects.toThrow(CorruptBlobError);
    });

    test("a quarantined object is no longer there, for readers and in the list, and goes only once", async () => {
      const stored = await put(randomBytes(1_000));
      expect(await storedLocations()).toContain(stored.location);
      await store.quarantine(stored.location);
      await store.quarantine(stored.location);
      expect(await read(stored)).toBeNull();
      expect(await storedLocations()).not.toContain(stored.location);
    });

    test("a small blob that was read before is read no more once its bytes have changed, been cut, moved or removed", async () => {
      const bytes = randomBytes(4_000);
      const [changed, cut, moved, removed] = await Promise.all([put(bytes), put(bytes), put(bytes), put(bytes)]);
      for (const stored of [changed, cut, moved, removed])
        for (let time = 0; time < 3; time++) expect(await read(stored)).toEqual(bytes);
      await opened.corrupt(changed.location, 5);
      await opened.truncate(cut.location, 3_999);
      await store.quarantine(moved.location);
      await store.remove(removed.location);
      await expect(read(changed)).rejects.toThrow(CorruptBlobError);
      await expect(read(cut, { start: 5, end: 9 })).rejects.toThrow(CorruptBlobError);
      expect([await read(moved), await read(removed)]).toEqual([null, null]);
    });

    test("a body that does not have the digest it was announced with leaves nothing", async () => {
      const before = await opened.countObjects();
      const bytes = randomBytes(9 * chunkBytes);
      await expect(store.receive(Readable.from([bytes]), { ...limit, expectedSha512: absent })).rejects.toMatchObject({
        code: "DIGEST_MISMATCH",
      });
      expect(await opened.countObjects()).toBe(before);
    });

    test("an empty blob is a blob", async () => {
      const empty = Buffer.alloc(0);
      const stored = await store.receive(Readable.from([]), { ...limit, expectedSizeBytes: 0 });
      expect(await read(stored)).toEqual(empty);
      await store.remove(stored.location);
      expect(await read(stored)).toBeNull();
    });

    test("what is absent is null, and removing it is no error", async () => {
      expect(await store.open(absent, { start: 0, end: 0 })).toBeNull();
      expect(await store.stat(absent)).toBeNull();
      await store.remove(absent);
    });

    test("a blob of 40 MiB that comes in small chunks is stored whole", async () => {
      const bytes = randomBytes(40 * 1024 * 1024);
      const chunks = Array.from({ length: 640 }, (_, index) => bytes.subarray(index * 65_536, (index + 1) * 65_536));
      const stored = await store.receive(Readable.from(chunks), { ...limit, expectedSizeBytes: bytes.length });
      expect(stored.sha512).toBe(digest(bytes));
      expect((await read(stored))?.equals(bytes)).toBe(true);
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
      expect(await opened.countObjects()).toBe(before);
    });

    test("what is on its way is not among the objects before its last byte has come", async () => {
      const bytes = randomBytes(200_000);
      const count = async () => (await storedLocations()).length;
      const before = await count();
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
      expect(await count()).toBe(before);
      finish();
      expect(await read(await receiving)).toEqual(bytes);
      expect(await count()).toBe(before + 1);
    });

    test("identical uploads at once are objects of their own, so that one can be removed under the other", async () => {
      const bytes = randomBytes(500_000);
      const [first, second] = await Promise.all([put(bytes), put(bytes)]);
      await store.remove(first.location);
      expect(await read(first)).toBeNull();
      expect(await read(second)).toEqual(bytes);
    });

    test("a reader that leaves early does not break the store", async () => {
      const bytes = randomBytes(20 * 1024 * 1024);
      const stored = await put(bytes);
      const blob = await openVerified(store, stored);
      for await (const _ of blob?.chunks ?? []) break;
      await blob?.close();
      expect((await read(stored))?.length).toBe(bytes.length);
    });

    test("a removed blob is absent", async () => {
      const bytes = randomBytes(1_000);
      const stored = await put(bytes);
      await store.remove(stored.location);
      expect(await read(stored)).toBeNull();
    });
  });
}
