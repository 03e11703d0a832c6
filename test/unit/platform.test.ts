import { expect, test } from "vitest";
import { platformOf } from "../../shacache/cache-drift/platform.js";

const of = (metadata: unknown) => platformOf(JSON.stringify(metadata));

test("entries are of one platform where slapgrid takes them to be", () => {
  const debian = { multiarch: "x86_64-linux-gnu", os: ["debian", "12", ""] };
  expect(of({ multiarch: "x86_64-linux-gnu", os: ["debian", "12.4", "bookworm"] })).toEqual(debian);
  expect(of({ multiarch: "x86_64-linux-gnu", os: ["Raspbian", "12", "bookworm"] })).toEqual(debian);
  expect(of({ machine: "x86_64", os: "('debian', '12.1', 'bookworm')" })).toEqual(debian);
  expect(of({ machine: "x86_64", os: "(u'debian', u'12', u'')" })).toEqual(debian);
  const ubuntu = ["ubuntu", "22.04", "jammy"];
  expect(of({ multiarch: "aarch64-linux-gnu", os: ubuntu })).toEqual({ multiarch: "aarch64-linux-gnu", os: ubuntu });
});

test("metadata of another kind is of no platform", () => {
  for (const metadata of [null, 1, [], {}, { os: ["debian", "12", ""] }, { multiarch: "x", os: ["a", "b"] }])
    expect(of(metadata)).toBeNull();
  expect(platformOf("no JSON")).toBeNull();
});
