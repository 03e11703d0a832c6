import { randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Readable } from "node:stream";
import { Client } from "minio";
import { expect, test } from "vitest";
import { openFileBlobStore } from "../../shacache/file-blob-store.js";
import { openS3BlobStore } from "../../shacache/s3-blob-store.js";
import { describeBlobStore } from "../support/blob-store-contract.js";
import { startMinio } from "../support/minio-server.js";
import { minioBinary, reasonToSkip } from "../support/toolchain.js";

const minio = await minioBinary();
const skipped = reasonToSkip(minio) !== null;

describeBlobStore("files", false, async () => {
  const folder = mkdtempSync("/tmp/sg-blobs-");
  return {
    store: await openFileBlobStore(folder),
    countObjects: async () =>
      readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length,
    close: async () => rmSync(folder, { recursive: true, force: true }),
  };
});

describeBlobStore("MinIO", skipped, async () => {
  if ("missing" in minio) throw new Error(minio.missing);
  const server = await startMinio(minio.binary);
  const { hostname, port } = new URL(server.endpoint);
  const client = new Client({
    endPoint: hostname,
    port: Number(port),
    useSSL: false,
    accessKey: server.accessKey,
    secretKey: server.secretKey,
  });
  const count = async (objects: AsyncIterable<unknown>) => {
    let found = 0;
    for await (const _ of objects) found++;
    return found;
  };
  return {
    store: await openS3BlobStore(server),
    countObjects: async () =>
      (await count(client.listObjectsV2(server.bucket, "", true))) +
      (await count(client.listIncompleteUploads(server.bucket, "", true))),
    close: server.close,
  };
});

test("an upload that a crash abandoned is swept once it is old, and not before", async () => {
  const folder = mkdtempSync("/tmp/sg-blobs-");
  const store = await openFileBlobStore(folder);
  const orphan = path.join(folder, "incoming", randomUUID());
  writeFileSync(orphan, "half");
  expect(await store.sweepOrphans(60_000)).toBe(0);
  const longAgo = new Date(Date.now() - 3_600_000);
  utimesSync(orphan, longAgo, longAgo);
  expect(await store.sweepOrphans(60_000)).toBe(1);
  rmSync(folder, { recursive: true, force: true });
});

test("a file store that is broken says so, and is never taken for an absence", async () => {
  const folder = mkdtempSync("/tmp/sg-blobs-");
  const store = await openFileBlobStore(folder);
  const { sha512 } = await store.receive(Readable.from([Buffer.from("x")]), { maxSizeBytes: 10 });
  const place = path.join(folder, "blobs", sha512.slice(0, 2));
  rmSync(place, { recursive: true });
  // A file where the folder was cannot be read through: that is no answer about the blob.
  writeFileSync(place, "not a folder");
  await expect(store.stat(sha512)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  rmSync(place);
  mkdirSync(place);
  chmodSync(place, 0o755);
  expect(await store.stat(sha512)).toBeNull();
  rmSync(folder, { recursive: true, force: true });
});

test.skipIf(skipped)("a MinIO that does not answer is UNAVAILABLE, and good again when it is back", async () => {
  if ("missing" in minio) return;
  const server = await startMinio(minio.binary);
  const store = await openS3BlobStore(server);
  const { sha512 } = await store.receive(Readable.from([Buffer.from("kept")]), {
    maxSizeBytes: 10,
    expectedSizeBytes: 4,
  });
  await server.kill();
  await expect(store.stat(sha512)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  await expect(store.check()).rejects.toMatchObject({ code: "UNAVAILABLE" });
  await expect(
    store.receive(Readable.from([Buffer.from("lost")]), { maxSizeBytes: 10, expectedSizeBytes: 4 }),
  ).rejects.toMatchObject({
    code: "UNAVAILABLE",
  });
  await server.start();
  await expect.poll(() => store.stat(sha512).catch(() => null), { timeout: 10_000 }).toEqual({ sizeBytes: 4 });
  await server.close();
});
