import { randomBytes } from "node:crypto";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../common/embedded-postgres.js";
import { readCompose } from "./compose-file.js";
import { type MinioServer, startMinio } from "./minio-server.js";
import { testLog } from "./test-log.js";
import { minioBinary } from "./toolchain.js";

export interface ComposedSystem {
  /** Each service of ours: what is started, and with exactly which environment. */
  programs: { name: string; script: string; args: string[]; environment: Record<string, string> }[];
  postgres: EmbeddedPostgres;
  minio: MinioServer;
  addressOf: (service: string) => string;
}

/**
 * What docker-compose.yml says, for a machine without containers: each service has a loopback address of its own in the
 * place of its name, so that ports stay those of the file; the database and the store are real ones with the file's secrets.
 */
export async function composeSystem(dataDir: string): Promise<ComposedSystem> {
  const tool = await minioBinary();
  if ("missing" in tool) throw new Error(`There is ${tool.missing}.`);
  const secret = () => randomBytes(16).toString("hex");
  const secrets = { SLAPGRAPH_ADMIN_TOKEN: secret(), POSTGRES_PASSWORD: secret(), MINIO_ROOT_PASSWORD: secret() };
  const network = `127.${1 + Math.floor(Math.random() * 250)}.${1 + Math.floor(Math.random() * 250)}`;
  const { services } = readCompose(secrets);
  const names = Object.keys(services);
  const addressOf = (service: string) => `${network}.${names.indexOf(service) + 1}`;
  const postgres = await startEmbeddedPostgres({
    dir: `${dataDir}/database`,
    password: services.postgres?.environment?.POSTGRES_PASSWORD ?? "",
    database: services.postgres?.environment?.POSTGRES_DB ?? "",
    log: testLog,
  });
  const minio = await startMinio(tool.binary, {
    accessKey: services.minio?.environment?.MINIO_ROOT_USER ?? "",
    secretKey: services.minio?.environment?.MINIO_ROOT_PASSWORD ?? "",
  });
  const mapped = (service: string, value: string) => {
    if (value === "0.0.0.0") return addressOf(service);
    if (value === "/data") return dataDir;
    const real = value
      .replace("@postgres:5432", `@${new URL(postgres.url).host}`)
      .replace("http://minio:9000", minio.endpoint)
      .replace("//localhost:4001", `//${addressOf("slap")}:4001`);
    return real.replace(/^http:\/\/([a-z]+):/, (all, host: string) =>
      names.includes(host) ? `http://${addressOf(host)}:` : all,
    );
  };
  const programs = Object.entries(services).flatMap(([name, { command, environment }]) => {
    const script = command?.[1]?.replace(/^dist\//, "");
    if (command?.[0] !== "node" || script === undefined) return [];
    const values = Object.entries(environment ?? {}).map(([key, value]) => [key, mapped(name, String(value))]);
    return [{ name, script, args: [], environment: Object.fromEntries(values) as Record<string, string> }];
  });
  return { programs, postgres, minio, addressOf };
}
