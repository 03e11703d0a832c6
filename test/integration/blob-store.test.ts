import { randomUUID } from "node:crypto";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { expect, test } from "vitest";
import { openFileBlobStore } from "../../shacache/file-blob-store.js";
import { openS3BlobStore, unfinishedUploads } from "../../shacache/s3-blob-store.js";
import { describeBlobStore } from "../support/blob-store-contract.js";
import { s3ClientOf, startMinio } from "../support/minio-server.js";
import { minioBinary, reasonToSkip } from "../support/toolchain.js";

const minio = await minioBinary();
const skipped = reasonToSkip(minio) !== null;

const flipped = (bytes: Buffer, position: number) => {
  bytes[position] = (bytes[position] ?? 0) ^ 1;
  return bytes;
};

describeBlobStore("files", false, async () => {
  const folder = mkdtempSync("/tmp/sg-blobs-");
  const fileOf = (location: string) => path.join(folder, "blobs", location.slice(0, 2), location);
  return {
    corrupt: async (location, position) =>
      writeFileSync(fileOf(location), flipped(readFileSync(fileOf(location)), position)),
    truncate: async (location, sizeBytes) => truncateSync(fileOf(location), sizeBytes),
    store: await openFileBlobStore(folder),
    countObjects: async () =>
      readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length,
    close: async () => rmSync(folder, { recursive: true, force: true }),
  };
});

describeBlobStore("MinIO", skipped, async () => {
  if ("missing" in minio) throw new Error(minio.missing);
  const server = await startMinio(minio.binary);
  const client = s3ClientOf(server);
  const count = async (objects: AsyncIterable<unknown>) => {
    let found = 0;
    for await (const _ of objects) found++;
    return found;
  };
  const change = async (location: string, by: (bytes: Buffer) => Buffer) => {
    const name = `blobs/${location}`;
    await client.putObject(server.bucket, name, by(await buffer(await client.getObject(server.bucket, name))));
  };
  return {
    store: await openS3BlobStore(server),
    corrupt: (location, position) => change(location, (bytes) => flipped(bytes, position)),
    truncate: (location, sizeBytes) => change(location, (bytes) => bytes.subarray(0, sizeBytes)),
    countObjects: async () =>
      (await count(client.listObjectsV2(server.bucket, "", true))) +
      (await count(unfinishedUploads(client, server.bucket))),
    close: server.close,
  };
});

test("an upload that a crash abandoned is swept once it is old, and not before", async () => {
  const folder = mkdtempSync("/tmp/sg-blobs-");
  const store = await openFileBlobStore(folder);
  const orphan = path.join(folder, "incoming", randomUUID());
  writeFileSync(orphan, "half");
  expect(await store.sweep(60_000)).toBe(0);
  const longAgo = new Date(Date.now() - 3_600_000);
  utimesSync(orphan, longAgo, longAgo);
  expect(await store.sweep(60_000)).toBe(1);
  rmSync(folder, { recursive: true, force: true });
});

test.skipIf(skipped)(
  "an unfinished upload that a crash left in a bucket is swept, and not before its time",
  async () => {
    if ("missing" in minio) return;
    const server = await startMinio(minio.binary);
    const store = await openS3BlobStore(server);
    const { bucket } = server;
    const client = s3ClientOf(server);
    const objectName = `blobs/${randomUUID()}`;
    const uploadID = await client.initiateNewMultipartUpload(bucket, objectName, {});
    const part = { bucketName: bucket, objectName, uploadID, partNumber: 1, headers: {} };
    await client.uploadPart(part, Buffer.alloc(5 * 1024 * 1024));
    expect(await store.sweep(60_000)).toBe(0);
    expect(await store.sweep(0)).toBe(1);
    const left: unknown[] = [];
    for await (const upload of unfinishedUploads(client, bucket)) left.push(upload);
    expect(left).toEqual([]);
    await server.close();
  },
);

test.skipIf(skipped)("a sweep goes on when what it found unfinished ends meanwhile", async () => {
  if ("missing" in minio) return;
  const server = await startMinio(minio.binary);
  const store = await openS3BlobStore(server);
  const { bucket } = server;
  const client = s3ClientOf(server);
  const sender = new AbortController();
  const senders = Array.from({ length: 8 }, async () => {
    while (!sender.signal.aborted) {
      const name = `blobs/${randomUUID()}`;
      await client.abortMultipartUpload(bucket, name, await client.initiateNewMultipartUpload(bucket, name, {}));
    }
  });
  for (let sweep = 0; sweep < 40; sweep++) expect(await store.sweep(60_000)).toBe(0);
  sender.abort();
  await Promise.all(senders);
  await server.close();
});

test("a file store that is broken says so, and is never taken for an absence", async () => {
  const folder = mkdtempSync("/tmp/sg-blobs-");
  const store = await openFileBlobStore(folder);
  const { location } = await store.receive(Readable.from([Buffer.from("x")]), { maxSizeBytes: 10 });
  const place = path.join(folder, "blobs", location.slice(0, 2));
  rmSync(place, { recursive: true });
  // A file where the folder was cannot be read through: that is no answer about the blob.
  writeFileSync(place, "not a folder");
  await expect(store.stat(location)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  rmSync(place);
  mkdirSync(place);
  chmodSync(place, 0o755);
  expect(await store.stat(location)).toBeNull();
  rmSync(folder, { recursive: true, force: true });
});

test("a file store whose folders are away is UNAVAILABLE, and good again when they are back", async () => {
  const folder = mkdtempSync("/tmp/sg-blobs-");
  const store = await openFileBlobStore(folder);
  const { location } = await store.receive(Readable.from([Buffer.from("kept")]), { maxSizeBytes: 10 });
  const unavailable = { code: "UNAVAILABLE" };
  for (const place of [folder, path.join(folder, "blobs")]) {
    renameSync(place, `${folder}-away`);
    await expect(store.stat(location)).rejects.toMatchObject(unavailable);
    await expect(store.read(location, 4)).rejects.toMatchObject(unavailable);
    await expect(store.open(location, { start: 0, end: 3 })).rejects.toMatchObject(unavailable);
    await expect(store.check()).rejects.toMatchObject(unavailable);
    renameSync(`${folder}-away`, place);
    expect(await store.stat(location)).toEqual({ sizeBytes: 4 });
  }
  rmSync(folder, { recursive: true, force: true });
});

test.skipIf(skipped)("a MinIO that does not answer is UNAVAILABLE, and good again when it is back", async () => {
  if ("missing" in minio) return;
  const server = await startMinio(minio.binary);
  const store = await openS3BlobStore(server);
  const { location } = await store.receive(Readable.from([Buffer.from("kept")]), {
    maxSizeBytes: 10,
    expectedSizeBytes: 4,
  });
  await server.kill();
  await expect(store.stat(location)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  await expect(store.check()).rejects.toMatchObject({ code: "UNAVAILABLE" });
  await expect(
    store.receive(Readable.from([Buffer.from("lost")]), { maxSizeBytes: 10, expectedSizeBytes: 4 }),
  ).rejects.toMatchObject({
    code: "UNAVAILABLE",
  });
  await server.start();
  await expect.poll(() => store.stat(location).catch(() => null), { timeout: 10_000 }).toEqual({ sizeBytes: 4 });
  await server.close();
});
