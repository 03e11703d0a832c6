import { expect, test } from "vitest";
import { ConfigError, loadConfig } from "../../common/config.js";

test("without any variable everything has its documented default", () => {
  expect(loadConfig({})).toMatchObject({
    dataDir: expect.stringMatching(/\/\.slapgraph$/),
    host: "127.0.0.1",
    gatewayPort: 4000,
    slapPort: 4001,
    shacachePort: 4002,
    openWrites: false,
    databaseUrl: undefined,
    s3: undefined,
  });
});

const wrong: [variable: string, environment: Record<string, string>, accepts: string][] = [
  ["SLAPGRAPH_GATEWAY_PORT", { SLAPGRAPH_GATEWAY_PORT: "99999" }, "a port number"],
  ["SLAPGRAPH_SLAP_PORT", { SLAPGRAPH_SLAP_PORT: "http" }, "a port number"],
  ["SLAPGRAPH_SHACACHE_PORT", { SLAPGRAPH_SHACACHE_PORT: "1.5" }, "a port number"],
  ["SLAPGRAPH_SHACACHE_OPEN_WRITES", { SLAPGRAPH_SHACACHE_OPEN_WRITES: "maybe" }, "on or off"],
  ["SLAPGRAPH_SHACACHE_OPEN_WRITES", { SLAPGRAPH_SHACACHE_OPEN_WRITES: "on", SLAPGRAPH_HOST: "0.0.0.0" }, "loopback"],
  ["SLAPGRAPH_SHACACHE_OPEN_READS", { SLAPGRAPH_SHACACHE_OPEN_READS: "perhaps" }, "on or off"],
  ["SLAPGRAPH_SHACACHE_STALL_SECONDS", { SLAPGRAPH_SHACACHE_STALL_SECONDS: "0" }, "seconds"],
  ["SLAPGRAPH_SHACACHE_SCRUB_RATE", { SLAPGRAPH_SHACACHE_SCRUB_RATE: "0" }, "MiB per second"],
  ["DATABASE_URL", { DATABASE_URL: "mysql://localhost/x" }, "a postgres:// URL"],
  ["SLAPGRAPH_ADMIN_TOKEN", { SLAPGRAPH_ADMIN_TOKEN: "short" }, "16 to 512 characters"],
  ["S3_SECRET_KEY", { S3_ENDPOINT: "http://127.0.0.1:9000" }, "set all three or none"],
  ["S3_ENDPOINT", { S3_ENDPOINT: "localhost" }, "an http:// or https:// URL"],
  ["SLAPGRAPH_LOG_LEVEL", { SLAPGRAPH_LOG_LEVEL: "loud" }, "one of trace"],
];

test.each(wrong)("a wrong %s is named with what it accepts", (variable, environment, accepts) => {
  expect(() => loadConfig(environment)).toThrow(ConfigError);
  expect(() => loadConfig(environment)).toThrow(variable);
  expect(() => loadConfig(environment)).toThrow(accepts);
});

test("anonymous reads of the Shacache go with a loopback address unless something else is said", () => {
  expect(loadConfig({}).openReads).toBe(true);
  expect(loadConfig({ SLAPGRAPH_HOST: "0.0.0.0" }).openReads).toBe(false);
  expect(loadConfig({ SLAPGRAPH_HOST: "0.0.0.0", SLAPGRAPH_SHACACHE_OPEN_READS: "on" }).openReads).toBe(true);
  expect(loadConfig({ SLAPGRAPH_SHACACHE_OPEN_READS: "off" }).openReads).toBe(false);
});

test("every word for on and off is understood", () => {
  for (const word of ["1", "on", "true", "YES"])
    expect(loadConfig({ SLAPGRAPH_SHACACHE_OPEN_WRITES: word }).openWrites).toBe(true);
  for (const word of ["0", "off", "false", "no", ""])
    expect(loadConfig({ SLAPGRAPH_SHACACHE_OPEN_WRITES: word }).openWrites).toBe(false);
});
