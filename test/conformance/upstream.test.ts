import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestDatabase } from "../support/database.js";
import { RunningSystem } from "../support/running-system.js";
import { pythonToolchain, reasonToSkip } from "../support/toolchain.js";
import { runUpstreamTests, type UpstreamResult } from "../support/upstream-tests.js";

/** The tables below are about the tests of this version. */
const upstreamVersion = "1.26.1";

/** Classes that are not run at all, each with the reason why none of its tests says anything of this master. */
const notOursAsAWhole: Record<string, string> = {
  "test_slapproxy.TestMultiMasterSupport":
    "Forwarding to a second slapproxy, which it starts on a fixed port, is slapproxy's own way to reach another master.",
  "test_slapproxy.TestMultiMasterConnectionError":
    "Forwarding to other masters is slapproxy's own, set in the configuration of its Flask application.",
  "test_slapproxy_json_rpc.JsonRpcConnectionErrorTestCase":
    "Forwarding to other masters is slapproxy's own, set in the configuration of its Flask application.",
  "test_slapproxy.TestLocalSoftwareReleaseRootPathMigration":
    "It moves slapproxy's folder and starts it again, which rewrites the paths in its database.",
  ...Object.fromEntries(
    [10, 11, 12, 13, 14, 15, 16, 17].map((version) => [
      `test_slapproxy.TestMigrateVersion${version}ToLatest`,
      "It runs the tests of the other classes again on a dump of slapproxy's sqlite database of an older version.",
    ]),
  ),
};

const sqlite = "It reads slapproxy's sqlite database.";
const guid = "slapproxy names an instance by its place or title; here a reference is given once and outlives both.";
const frontend = "slapproxy pretends to have frontends and answers with the backend's own URL.";
const room =
  "slapproxy refuses what has no room on its one default computer; here, as on the ERP5 master, any computer of the project serves and a request without room is kept and answered as not ready.";
const emptyRequester =
  "It asks in the name of a partition that holds nothing: slapproxy takes the claim for granted, here such a partition has nobody to ask for.";
const unknownCertificate =
  "slapproxy has no certificates and answers an empty pair for whatever name; here what does not exist has none.";
const nodesWord = "slapproxy forgets on the node's word alone; here what nobody asked to destroy is kept.";
const status = "It spells what slapproxy says of itself for lack of a status, which this master has.";
const sharedStub = "slapproxy does not implement it for shared instances and says so; this master does.";

/** Tests that must not hold for this master, each with the reason. One that passes has to leave the table. */
const notOurs: Record<string, string> = {
  "test_slapproxy.TestInformation.test_getComputerInformation": sqlite,
  "test_slapproxy.TestInformation.test_getFullComputerInformation": sqlite,
  "test_slapproxy.TestRequest.test_destroy_partition": sqlite,
  "test_slapproxy.TestRequest.test_destroy_child_partition": sqlite,
  "test_slapproxy.TestInformation.test_getComputerPartitionCertificate": unknownCertificate,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_post_v0_compute_node_certificate": unknownCertificate,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_get_v0_software_instance_certificate": unknownCertificate,
  "test_slapproxy.TestMultiNodeSupport.test_multi_node_support_instance_guid": guid,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_put_v0_software_instance_title_instance": guid,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_get_v0_software_instance__not_instance":
    "It asks for the words with which slapproxy refuses a name that it cannot take apart into title and root.",
  "test_slapproxy.TestRequest.test_request_frontend": frontend,
  "test_slapproxy.TestRequest.test_request_frontend_with_secure_access": frontend,
  "test_slapproxy.TestRequest.test_request_kvm_frontend": frontend,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_post_v0_shared_instance__with_cdn": frontend,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_post_v0_shared_instance__with_cdn_and_https_proxy": frontend,
  "test_slapproxy.TestRequest.test_two_request_one_partition_free": room,
  "test_slapproxy.TestSlaveRequest.test_slave_request_no_corresponding_partition": room,
  "test_slapproxy.TestMultiNodeSupport.test_multi_node_support_instance": room,
  "test_slapproxy.TestMultiNodeSupport.test_multi_node_support_instance_default_computer": room,
  "test_slapproxy.TestMultiNodeSupport.test_multi_node_support_slave_instance": room,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_post_v0_software_instance__no_partition": room,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_put_v0_compute_node_format_empty_node": room,
  "test_slapproxy.TestRequest.test_request_consistent_parameters": emptyRequester,
  "test_slapproxy.TestSlaveRequest.test_master_instance_with_no_slave": emptyRequester,
  "test_slapproxy.TestSlaveRequest.test_slave_request_one_corresponding_partition": emptyRequester,
  "test_slapproxy.TestSlaveRequest.test_slave_request_set_connection_parameters": emptyRequester,
  "test_slapproxy.TestSlaveRequest.test_slave_request_set_parameters": emptyRequester,
  "test_slapproxy.TestSlaveRequest.test_slave_request_set_parameters_are_updated": emptyRequester,
  "test_slapproxy.TestCliInformation.test_invalid_computer_names":
    "slapproxy registers whatever name a node formats itself with; here such a name is refused when the computer is made.",
  "test_slapproxy.TestCliInformation.test_invalid_service_names":
    "slapproxy refuses a title with a quotation mark in it; here the instance is found.",
  "test_slapproxy.TestCliInformation.test_service_info": status,
  "test_slapproxy.TestCliInformation.test_service_info_with_shared": status,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_get_v0_compute_node_status": status,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_put_v0_compute_node_bang":
    "slapproxy ignores the bang of a computer and says so; this master acts on it.",
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_put_v0_software_instance_bang_shared": sharedStub,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_put_v0_software_instance_title_shared": sharedStub,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_put_v0_software_instance_reported_state_destroyed": nodesWord,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_put_v0_software_installation_reported_state_destroyed": nodesWord,
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_put_v0_compute_node_format_update_existing":
    "slapproxy drops the instances of a partition that its node no longer lists, unlike the ERP5 master, as the test itself says.",
  "test_slapproxy_json_rpc.JsonRpcTestCase.test_post_v0_hateoas_url_with_https":
    "slapproxy builds its own address out of the caller's headers; here it is configured.",
};

const toolchain = await pythonToolchain();
const skipped =
  reasonToSkip(toolchain) ??
  ("slaposVersion" in toolchain && toolchain.slaposVersion !== upstreamVersion
    ? `slapos.core ${toolchain.slaposVersion}`
    : null);

describe.skipIf(skipped !== null)(`the tests of slapos.core ${upstreamVersion} over HTTP`, () => {
  let results: UpstreamResult[];
  const undo: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    if ("missing" in toolchain) return;
    const database = await createTestDatabase();
    undo.push(() => database.drop());
    const system = await RunningSystem.start({ DATABASE_URL: database.url, SLAPGRAPH_LOG_LEVEL: "warn" });
    undo.push(() => system.close());
    const only = (process.env.UPSTREAM_TESTS ?? "").split(",").filter((name) => name !== "");
    results = await runUpstreamTests({
      system,
      databaseUrl: database.url,
      toolchain,
      leftOut: Object.keys(notOursAsAWhole),
      only,
    });
    if (only.length > 0) process.stderr.write(`${results.map(show).join("\n")}\n${system.output.slice(-6000)}\n`);
  }, 600_000);

  afterAll(async () => {
    for (const step of undo.reverse()) await step();
  });

  test("every test passes that is not about slapproxy itself", () => {
    expect(results.length).toBeGreaterThan(0);
    const failed = results.filter(({ id, outcome }) => (outcome === "fail" || outcome === "error") && !(id in notOurs));
    expect(failed.map(show).join("\n\n")).toBe("");
  });

  test("every test that is called slapproxy's own still fails here", () => {
    const held = results.filter(({ id, outcome }) => outcome !== "fail" && outcome !== "error" && id in notOurs);
    expect(held.map(({ id }) => id)).toEqual([]);
  });

  test("every test that is called slapproxy's own still exists", () => {
    const ids = new Set(results.map(({ id }) => id));
    expect(Object.keys(notOurs).filter((id) => !ids.has(id))).toEqual([]);
  });
});

function show({ id, outcome, message }: UpstreamResult): string {
  return `${id}: ${outcome}\n${message}`;
}
