import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { adminToken } from "../support/database.js";
import { openShacacheFixture, type ShacacheFixture, stores } from "../support/shacache-fixture.js";
import { type PythonToolchain, pythonToolchains, reasonToSkip } from "../support/toolchain.js";
import { runUpstreamScript, type UpstreamResult } from "../support/upstream-tests.js";

/** Classes that say nothing of a server, or of what another one is configured to be. */
const notOursAsAWhole: Record<string, string> = {
  OfflineTest: "About the client where nothing listens.",
  GenerateSignatureScriptTest: "About a command that writes keys.",
  OnlineTestSSLServer: "Its own preparation fails on Python 3, before any request: it writes text into a binary file.",
  OnlineTestPOST200: "About the client's answer to a server that is wrong; with a server given it has none.",
  OnlineTestWrongChecksum: "About the client's answer to a server that is wrong; with a server given it has none.",
  TestShacacheUpdate: "slapproxy's own endpoint, which compares its folders with another server.",
  TestShacacheNotConfigured: "About slapproxy without a folder to serve.",
  ShacacheUpstreamDirTestCase: "Starts two servers of slapproxy, and looks into their folders.",
  TestShacacheUpstreamCache: "Starts two servers of slapproxy, and looks into their folders.",
  TestExternalShacache: "Asks servers on the Internet.",
};

const writesIntoTree = "Writes into the folder of the test's own server, which there is none of with a server given.";

/** Tests that fail here, each with the reason why that is right. */
const notOurs: Record<string, string> = {
  "libnetworkcachetests.OnlineTest.test_select_no_entries": writesIntoTree,
  "libnetworkcachetests.OnlineTest.test_select_no_json_response": writesIntoTree,
  "libnetworkcachetests.OnlineTest.test_select_json_no_in_json_response": writesIntoTree,
  "libnetworkcachetests.OnlineTest.test_select_json_in_json_no_dict": writesIntoTree,
  "libnetworkcachetests.OnlineTest.test_select_signed_content_server_hacked": writesIntoTree,
  "test_slapproxy_shacache.TestShacachePutDir.test_put_dir_valid_creates_file": "Looks for slapproxy's own file.",
};

const found = await pythonToolchains();
const skipped = reasonToSkip(found);
const generations = "missing" in found ? [{ slaposVersion: "none" } as PythonToolchain] : found;
const runs = generations.flatMap((toolchain) => stores.map((one) => ({ ...one, toolchain })));

for (const { store, isSkipped, toolchain } of runs) {
  describe.skipIf(skipped !== null || isSkipped)(
    `upstream's tests of the cache against ours, slapos.core ${toolchain.slaposVersion}, ${store}`,
    () => {
      let cache: ShacacheFixture;
      let results: UpstreamResult[];

      beforeAll(async () => {
        cache = await openShacacheFixture(store);
        const { hostname, port } = new URL(cache.door.url);
        const settings = {
          host: hostname,
          port: Number(port),
          token: adminToken,
          leftOut: Object.keys(notOursAsAWhole),
        };
        results = await runUpstreamScript("cache_over_http.py", settings, toolchain);
      }, 300_000);

      afterAll(() => cache?.close());

      test("every test passes that is about what any server does", () => {
        expect(results.filter(({ outcome }) => outcome === "ok").length).toBeGreaterThan(12);
        const failed = results.filter(({ id, outcome }) => outcome !== "ok" && !(id in notOurs));
        expect(failed.map(({ id, outcome, message }) => `${id}: ${outcome}\n${message}`).join("\n\n")).toBe("");
      });

      test("every test that is called another server's own still fails here", () => {
        expect(results.filter(({ id, outcome }) => outcome === "ok" && id in notOurs).map(({ id }) => id)).toEqual([]);
      });
    },
  );
}
