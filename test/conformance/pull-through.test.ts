import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { adminToken } from "../support/database.js";
import { openShacacheFixture, stores } from "../support/shacache-fixture.js";
import { createSigningKey } from "../support/signing-key.js";
import { pythonToolchains, reasonToSkip } from "../support/toolchain.js";
import { honest, sha512Of, startUpstream } from "../support/upstream-cache.js";
import { runUpstreamScript } from "../support/upstream-tests.js";

const found = await pythonToolchains();
const skipped = reasonToSkip(found) !== null;

describe.each(stores)("the real client at a cache with an upstream, on $store", ({ store, isSkipped }) => {
  test.skipIf(skipped || isSkipped)(
    "finds upstream's signed entries, downloads upstream's blobs, notices lies, and does not send what upstream has",
    async () => {
      if ("missing" in found) return;
      const [good, lie, probed] = [randomBytes(30_000_000), randomBytes(2_000_000), randomBytes(20_000_000)] as const;
      const [builder, stranger] = [await createSigningKey("builder"), await createSigningKey("stranger")];
      const far = await openShacacheFixture("files");
      await far.put("thing", builder.entry({ sha512: sha512Of(good), name: "first" }));
      await far.put("thing", stranger.entry({ sha512: sha512Of(good), name: "not trusted" }));
      await far.put("thing", builder.entry({ sha512: sha512Of(good), name: "second" }));
      const upstream = await startUpstream([good, probed], (request, response, bytes) =>
        request.url?.endsWith(sha512Of(lie))
          ? void response.writeHead(200, { "content-length": lie.length }).end(randomBytes(lie.length))
          : honest(request, response, bytes),
      );
      const near = await openShacacheFixture(store, {
        SLAPGRAPH_SHACACHE_UPSTREAMS: upstream.url,
        SLAPGRAPH_SHADIR_UPSTREAMS: `${far.door.url}/shadir`,
      });
      const folder = mkdtempSync("/tmp/sg-client-");
      chmodSync(folder, 0o755);
      writeFileSync(`${folder}/probed`, probed, { mode: 0o644 });
      try {
        for (const toolchain of found) {
          const settings = {
            url: near.door.url,
            uploadUrl: `${near.door.url}/k/${adminToken}`,
            certificate: builder.certificate,
            key: "thing",
            good: sha512Of(good),
            lie: sha512Of(lie),
            file: `${folder}/probed`,
          };
          const steps = await runUpstreamScript("pulling_client.py", settings, toolchain);
          const said = Object.fromEntries(steps.map(({ id, message }) => [id, message]));
          expect(said).toEqual({
            select: "second,first",
            download: String(good.length),
            "download again": String(good.length),
            // The first toolchain sees the transfer break; from then on that upstream is not asked for it.
            "download lies": expect.stringMatching(/invalid checksum|404|IncompleteRead/),
            "download nothing": expect.stringContaining("404"),
            "upload what upstream has": sha512Of(probed),
          });
        }
        const stored = await near.rows<{ sha512: string }>("select sha512 from shacache.artifact");
        expect(stored.map(({ sha512 }) => sha512)).toEqual([sha512Of(good)]);
        expect(upstream.asked.filter((line) => line.includes(sha512Of(good)))).toHaveLength(1);
      } finally {
        await near.close();
        await far.close();
        await upstream.close();
        rmSync(folder, { recursive: true });
      }
    },
    120_000,
  );
});
