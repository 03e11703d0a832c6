import { minioBinary, pythonToolchain } from "./toolchain.js";

/** Makes what the suites with real clients need before any suite runs, so that no test's time limit counts it. */
process.stderr.write("Looking for the real clients and servers that the tests use\n");
const [python, minio] = await Promise.all([pythonToolchain(), minioBinary()]);
process.stderr.write(
  "missing" in python
    ? `  no slapos.core: ${python.missing}\n`
    : `  slapos.core ${python.slaposVersion} at ${python.bin}\n`,
);
process.stderr.write("missing" in minio ? `  no MinIO: ${minio.missing}\n` : `  MinIO at ${minio.binary}\n`);
if (process.env.CI === "true" && ("missing" in python || "missing" in minio)) process.exitCode = 1;
