import { describe, expect, test } from "vitest";
import { parseGlobalId, toGlobalId } from "../../common/global-id.js";
import { parseRange } from "../../shacache/byte-range.js";
import { parseTarget } from "../../shacache/target.js";
import { parseTarget as parseSlapTarget } from "../../slap/call.js";
import { decodeFormat, decodeTextDictionary, toWireParameters } from "../../slap/codec.js";
import { toInstanceXml } from "../../slap/hateoas.js";
import { dumps, MarshalFloat } from "../../slap/xml-marshaller.js";
import { mayReleaseBecome } from "../../subgraphs/catalog/release/release.state.js";
import { livenessAt } from "../../subgraphs/computer/computer/computer.state.js";
import { acceptsReport } from "../../subgraphs/computer/installation/installation.state.js";
import {
  reasonsAgainstComputer,
  reasonsAgainstFilter,
  reasonsAgainstPartition,
} from "../../subgraphs/computer/instance/allocate.js";
import { mayAllocationBecome, mayRequestBecome } from "../../subgraphs/computer/instance/instance.state.js";
import {
  nextPartitionState,
  partitionStates,
  partitionTriggers,
} from "../../subgraphs/computer/partition/partition.state.js";
import {
  applyHealthEvent,
  type HealthEvent,
  type PartitionHealth,
  shownHealth,
} from "../../subgraphs/monitoring/health/health.state.js";

describe("a partition", () => {
  test("is allocated only when free, and freed only when it holds something", () => {
    for (const state of partitionStates) {
      expect(nextPartitionState(state, "allocate")).toBe(state === "FREE" ? "ALLOCATED" : null);
      expect(nextPartitionState(state, "free")).toBe(state === "FREE" ? null : "FREE");
    }
  });

  test("that is free has no transition but allocation: a late report changes nothing", () => {
    for (const trigger of partitionTriggers)
      if (trigger !== "allocate") expect(nextPartitionState("FREE", trigger)).toBeNull();
  });

  test("stays in destruction whatever its node reports on the way", () => {
    for (const trigger of ["reportStarted", "reportStopped", "reportError"] as const) {
      expect(nextPartitionState("DESTROYING", trigger)).toBe("DESTROYING");
    }
  });
});

test("destruction of an instance is final, and a released allocation stays released", () => {
  expect(mayRequestBecome("DESTROYED", "STARTED")).toBe(false);
  expect(mayRequestBecome("STOPPED", "STARTED")).toBe(true);
  expect(mayAllocationBecome("RELEASED", "ALLOCATED")).toBe(false);
  expect(mayAllocationBecome("PENDING", "ALLOCATED")).toBe(true);
});

test("a release counts as destroyed only where destruction was requested", () => {
  expect(acceptsReport("AVAILABLE", "DESTROYED")).toBe(false);
  expect(acceptsReport("DESTROYED", "DESTROYED")).toBe(true);
  expect(acceptsReport("AVAILABLE", "ERROR")).toBe(true);
});

test("a withdrawn release comes back only by being published again", () => {
  expect(mayReleaseBecome("WITHDRAWN", "DEPRECATED")).toBe(false);
  expect(mayReleaseBecome("WITHDRAWN", "PUBLISHED")).toBe(true);
});

test("a master that was itself down does not declare its nodes lost", () => {
  const thresholds = { suspectAfterMs: 10, lostAfterMs: 100 };
  expect(livenessAt("ONLINE", 1_000, 5, thresholds)).toBe("ONLINE");
  expect(livenessAt("ONLINE", 1_000, 50, thresholds)).toBe("SUSPECT");
  expect(livenessAt("ONLINE", 1_000, 500, thresholds)).toBe("LOST");
  expect(livenessAt("LOST", 1_000, 5, thresholds)).toBe("LOST");
  expect(livenessAt("LOST", 1, 500, thresholds)).toBe("ONLINE");
  expect(livenessAt("ONLINE", null, 500, thresholds)).toBe("UNSEEN");
});

describe("allocation", () => {
  const request = {
    project: "main",
    isShared: false,
    releaseUrl: "http://release.example/software.cfg",
    softwareType: "default",
    filter: {},
    takenNetworks: [],
  };
  const free = { key: "C/p", state: "FREE", capabilities: [], isListed: true, host: null } as const;
  const open = { reference: "C", project: "main", scope: "OPEN", attributes: {} } as const;
  const constraints = (reasons: { constraint: string }[]) => reasons.map((reason) => reason.constraint);

  test("says every reason against a candidate, and none for one that fits", () => {
    const cordoned = { ...open, project: "other", scope: "CORDONED" } as const;
    const asked = { ...request, filter: { computer_guid: "D" } };
    expect(constraints(reasonsAgainstComputer(asked, cordoned))).toEqual(["project", "scope", "computer_guid"]);
    expect(reasonsAgainstComputer(request, open)).toEqual([]);
    expect(reasonsAgainstPartition(request, free)).toEqual([]);
    const taken = { ...free, state: "STARTED", isListed: false, capabilities: ["gpu"] } as const;
    expect(constraints(reasonsAgainstPartition(request, taken))).toEqual(["state", "state", "capability"]);
  });

  test("an attribute that is asked for is the computer's own or above it", () => {
    const wants = (filter: Record<string, string>) => ({ ...request, filter });
    const placed = { ...open, attributes: { region: "europe/france", network_guid: "NET-1" } };
    expect(reasonsAgainstComputer(wants({ region: "europe" }), placed)).toEqual([]);
    expect(reasonsAgainstComputer(wants({ region: "europe/france" }), placed)).toEqual([]);
    for (const region of ["euro", "europe/france/paris", "asia"]) {
      expect(constraints(reasonsAgainstComputer(wants({ region }), placed)), region).toEqual(["region"]);
    }
    expect(constraints(reasonsAgainstComputer(wants({ network_guid: "NET-1", cpu_core: "4" }), placed))).toEqual([
      "cpu_core",
    ]);
    const unique = { ...wants({ mode: "unique_by_network" }), takenNetworks: ["NET-1"] };
    expect(constraints(reasonsAgainstComputer(unique, placed))).toEqual(["mode"]);
    expect(reasonsAgainstComputer(unique, open)).toEqual([]);
  });

  test("a shared instance goes to a started instance of its release and type, whatever its computer still takes", () => {
    const shared = { ...request, isShared: true };
    const { releaseUrl, softwareType } = request;
    const host = { reference: "SOFTINST-1", releaseUrl, softwareType, requestedState: "STARTED" } as const;
    const held = { ...free, state: "STARTED", host } as const;
    expect(reasonsAgainstComputer(shared, { ...open, scope: "CORDONED" })).toEqual([]);
    expect(reasonsAgainstPartition(shared, held)).toEqual([]);
    expect(constraints(reasonsAgainstPartition(shared, free))).toEqual(["host"]);
    const other = {
      ...host,
      releaseUrl: "http://other.example/",
      softwareType: "x",
      requestedState: "STOPPED",
    } as const;
    expect(constraints(reasonsAgainstPartition(shared, { ...held, host: other }))).toEqual(["host", "host", "host"]);
    const named = { ...shared, filter: { instance_guid: "SOFTINST-2" } };
    expect(constraints(reasonsAgainstPartition(named, held))).toEqual(["instance_guid"]);
    expect(constraints(reasonsAgainstPartition({ ...named, isShared: false }, free))).toEqual(["instance_guid"]);
  });

  test("knows the node's own keys from unknown ones", () => {
    const filter = { computer_guid: "C", retention_delay: "1", fw_rejected_sources: "x", region: "europe" };
    expect(reasonsAgainstFilter(filter)).toEqual([]);
    const wrong = reasonsAgainstFilter({ ...filter, colour: "red", mode: "unique_by_moon" });
    expect(constraints(wrong)).toEqual(["filter", "mode"]);
    expect(wrong[0]?.message).toContain("colour");
  });
});

describe("health", () => {
  const event = (
    position: number,
    kind: string,
    payload: Record<string, unknown>,
    cause: string | null = null,
  ): HealthEvent => ({
    position,
    at: new Date(position * 1000),
    kind,
    subject: "C/p",
    project: "main",
    cause,
    payload,
  });
  const fold = (...events: HealthEvent[]) => events.reduce<PartitionHealth | null>(applyHealthEvent, null);
  const allocated = event(1, "PartitionStateChanged", { to: "ALLOCATED", instance: "I", owner: "alice" });
  const started = event(2, "PartitionStateChanged", { to: "STARTED", instance: "I", owner: "alice" });
  const banged = event(3, "BangAccepted", { partition: "C/p" }, "a promise fails");

  test("is unknown before a report, green after one, red after a bang until the next", () => {
    expect(fold(allocated)).toMatchObject({ health: "UNKNOWN", owner: "alice", instanceReference: "I" });
    expect(fold(allocated, started)).toMatchObject({ health: "GREEN", since: started.at });
    expect(fold(allocated, started, banged)).toMatchObject({ health: "RED", message: "a promise fails" });
    const same = event(4, "PartitionReported", { state: "STARTED", instance: "I", owner: "alice" });
    expect(fold(allocated, started, banged, same)).toMatchObject({ health: "GREEN", message: null });
  });

  test("does not change by an event that was applied before", () => {
    const once = fold(allocated, started, banged);
    expect(applyHealthEvent(once, started)).toBe(once);
    expect(applyHealthEvent(once, banged)).toBe(once);
  });

  test("forgets the instance of a freed partition, and a bang of nothing is nothing", () => {
    expect(
      fold(allocated, event(5, "PartitionStateChanged", { to: "FREE", instance: "I", owner: "alice" })),
    ).toMatchObject({
      owner: null,
      instanceReference: null,
      health: "UNKNOWN",
    });
    expect(fold(banged)).toBeNull();
  });

  test("is unknown while the node is not heard of", () => {
    expect(shownHealth("GREEN", "SUSPECT")).toBe("UNKNOWN");
    expect(shownHealth("RED", "LOST")).toBe("UNKNOWN");
    expect(shownHealth("GREEN", "ONLINE")).toBe("GREEN");
  });
});

describe("targets and ranges", () => {
  test("a cache key is what comes after the prefix, untouched", () => {
    expect(parseTarget("/shadir/a%2eb/../c+d?e#f")).toEqual({ token: null, store: "shadir", key: "a%2eb/../c+d?e#f" });
    expect(parseTarget("/k/t/shacache")).toEqual({ token: "t", store: "shacache", key: null });
    expect(parseTarget("/shacacheX/y")).toEqual({ token: null, store: null, key: null });
  });

  test("a token in the path is parted from the endpoint", () => {
    expect(parseSlapTarget("/k/abc/getX?computer_id=C")).toEqual({
      token: "abc",
      endpoint: "getX",
      query: "computer_id=C",
    });
    expect(parseSlapTarget("/getX")).toEqual({ token: null, endpoint: "getX", query: "" });
    // A master_url as it is, and what is put behind it, with and without a slash at its end.
    expect(parseSlapTarget("/k/abc")).toEqual({ token: "abc", endpoint: "", query: "" });
    expect(parseSlapTarget("/k/abc//hateoas?mode=search")).toEqual({
      token: "abc",
      endpoint: "hateoas",
      query: "mode=search",
    });
    expect(parseSlapTarget("//getX")).toEqual({ token: null, endpoint: "getX", query: "" });
  });

  test("a range is inclusive, bounded by the size, and unsatisfiable beyond it", () => {
    expect(parseRange("bytes=0-9", 100)).toEqual({ start: 0, end: 9 });
    expect(parseRange("bytes=90-", 100)).toEqual({ start: 90, end: 99 });
    expect(parseRange("bytes=-10", 100)).toEqual({ start: 90, end: 99 });
    expect(parseRange("bytes=90-1000", 100)).toEqual({ start: 90, end: 99 });
    expect(parseRange("bytes=100-", 100)).toBe("unsatisfiable");
    expect(parseRange("bytes=5-1", 100)).toBeNull();
    expect(parseRange("lines=1-2", 100)).toBeNull();
    expect(parseRange(undefined, 100)).toBeNull();
  });
});

describe("parameters on the wire", () => {
  test("plain ones go key by key as text, nested ones as JSON under `_`", () => {
    expect(toWireParameters({ a: 1, b: "x", c: true, d: null })).toEqual({ a: "1", b: "x", c: "true" });
    expect(toWireParameters({ a: 1, b: { c: [2] } })).toEqual({ _: '{"a":1,"b":{"c":[2]}}' });
    expect(toWireParameters({ _: '{"x": 1}' })).toEqual({ _: '{"x": 1}' });
  });

  test("every character that XML can hold is read back from an instance's document, also in a key", () => {
    expect(toInstanceXml({ 'a"\n': "\t<&>\r\n\u0001\uffffé" })).toBe(
      "<?xml version='1.0' encoding='utf-8'?>\n<instance>\n" +
        '  <parameter id="a&quot;&#10;">&#9;&lt;&amp;&gt;&#13;&#10;é</parameter>\n</instance>\n',
    );
  });

  test("what a node publishes becomes the text that Python would make of it", () => {
    const xml = dumps({
      number: 7,
      truth: true,
      real: new MarshalFloat(1),
      large: new MarshalFloat(1e16),
      small: new MarshalFloat(0.00001),
      none: new MarshalFloat(Number.NaN),
      endless: new MarshalFloat(Number.NEGATIVE_INFINITY),
      nothing: null,
      text: "a & <b>",
      list: [1, "2"],
    });
    expect(decodeTextDictionary(xml, "x")).toEqual({
      number: "7",
      truth: "True",
      real: "1.0",
      large: "1e+16",
      small: "1e-05",
      none: "nan",
      endless: "-inf",
      nothing: "",
      text: "a & <b>",
      list: '[1,"2"]',
    });
  });

  test("a format needs its references only, and two partitions of one name are refused", () => {
    expect(decodeFormat(dumps({ reference: "C", partition_list: [{ reference: "p0" }] })).partitions).toEqual([
      { reference: "p0", addresses: [], routedAddresses: [], capabilities: [] },
    ]);
    expect(() =>
      decodeFormat(dumps({ reference: "C", partition_list: [{ reference: "p" }, { reference: "p" }] })),
    ).toThrow("same reference");
    expect(() => decodeFormat(dumps({ partition_list: [] }))).toThrow("no reference");
  });
});

test("a global id names its type and key, and nothing else parses as one", () => {
  const id = toGlobalId("SoftwareRelease", "http://é/a:b");
  expect(parseGlobalId(id)).toEqual({ type: "SoftwareRelease", naturalKey: "http://é/a:b" });
  for (const text of ["", "%%%", "bm9jb2xvbg", `${id}=`, "a".repeat(5000)]) expect(parseGlobalId(text)).toBeNull();
});
