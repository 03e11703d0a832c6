import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { parseRange } from "../../shacache/byte-range.js";
import { digestIn, evaluate, rangeOf, representationOf } from "../../shacache/representation.js";

const sha512 = createHash("sha512").update("blob").digest("hex");
const etag = `"${sha512}"`;

describe("the preconditions of a read", () => {
  test.each([
    [{}, "send"],
    [{ "if-none-match": etag }, "not modified"],
    [{ "if-none-match": `W/${etag}` }, "not modified"],
    [{ "if-none-match": `"a", ${etag}` }, "not modified"],
    [{ "if-none-match": "*" }, "not modified"],
    [{ "if-none-match": '"other"' }, "send"],
    [{ "if-match": etag }, "send"],
    [{ "if-match": "*" }, "send"],
    [{ "if-match": '"other"' }, "failed"],
    [{ "if-match": `W/${etag}` }, "failed"],
    [{ "if-match": '"other"', "if-none-match": etag }, "failed"],
  ])("%o: %s", (headers, verdict) => {
    expect(evaluate(headers, sha512)).toBe(verdict);
  });

  test("a range is sent only of the representation that it was asked of", () => {
    const range = "bytes=1-";
    expect(rangeOf({ range }, sha512)).toBe(range);
    expect(rangeOf({ range, "if-range": etag }, sha512)).toBe(range);
    for (const other of ['"other"', `W/${etag}`, "Wed, 21 Oct 2015 07:28:00 GMT"])
      expect(rangeOf({ range, "if-range": other }, sha512)).toBeUndefined();
  });
});

test("a range is inclusive, its end is cut to the blob's, and what is no single range is ignored", () => {
  expect(parseRange("bytes=0-0", 10)).toEqual({ start: 0, end: 0 });
  expect(parseRange("bytes=5-", 10)).toEqual({ start: 5, end: 9 });
  expect(parseRange("bytes=-3", 10)).toEqual({ start: 7, end: 9 });
  expect(parseRange("bytes=-30", 10)).toEqual({ start: 0, end: 9 });
  expect(parseRange("bytes=5-99999999999999999999", 10)).toEqual({ start: 5, end: 9 });
  for (const header of ["bytes=10-", "bytes=-0"]) expect(parseRange(header, 10)).toBe("unsatisfiable");
  expect(parseRange("bytes=0-", 0)).toBe("unsatisfiable");
  for (const header of ["bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=b-", "bytes=5-4"])
    expect(parseRange(header, 10), header).toBeNull();
});

test("a digest is read out of Repr-Digest, whatever else is in it", () => {
  const base64 = Buffer.from(sha512, "hex").toString("base64");
  expect(digestIn(`sha-512=:${base64}:`)).toBe(sha512);
  expect(digestIn(`sha-256=:AAAA:, sha-512=:${base64}:`)).toBe(sha512);
  expect(digestIn("sha-256=:AAAA:")).toBeUndefined();
  expect(digestIn(undefined)).toBeUndefined();
});

test("what takes a credential to read is not for caches in between", () => {
  expect(representationOf(sha512, true)["cache-control"]).toBe("public, max-age=31536000, immutable");
  expect(representationOf(sha512, false)["cache-control"]).toBe("private, max-age=31536000, immutable");
});
