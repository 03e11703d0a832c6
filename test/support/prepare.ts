import { minioBinary, pythonToolchains } from "./toolchain.js";

/** Makes what the suites with real clients need before any suite runs, so that no test's time limit counts it. */
process.stderr.write("Looking for the real clients and servers that the tests use\n");
const [pythons, minio] = await Promise.all([pythonToolchains(), minioBinary()]);
if ("missing" in pythons) process.stderr.write(`  no slapos.core: ${pythons.missing}\n`);
else for (const { slaposVersion, bin } of pythons) process.stderr.write(`  slapos.core ${slaposVersion} at ${bin}\n`);
process.stderr.write("missing" in minio ? `  no MinIO: ${minio.missing}\n` : `  MinIO at ${minio.binary}\n`);
if (process.env.CI === "true" && ("missing" in pythons || "missing" in minio)) process.exitCode = 1;
