import type { Command } from "commander";
import { ConfigError } from "../common/config.js";
import type { Api } from "./api.js";
import { count } from "./identity-commands.js";
import { say, table } from "./output.js";

const maxRecords = 100;

interface AuditOptions {
  last: number;
  project?: string;
  actor?: string;
  door?: string;
  action?: string;
  target?: string;
  result?: string;
  since?: string;
  until?: string;
}

/** Who did what, and the keys that say who is who. */
export function addAuditCommands(program: Command, api: () => Api): void {
  program
    .command("audit")
    .description("The audit trail: who did what, from which door, with which result.")
    .command("list")
    .description("List the newest records that the token sees, the newest last.")
    .option("--last <n>", `how many, 1 to ${maxRecords}`, count, 50)
    .option("--project <name>", "of this project")
    .option("--actor <subject>", "of this person, computer or instance")
    .option("--door <door>", "GRAPHQL, SLAP or SHACACHE")
    .option("--action <name>", "of this mutation, endpoint or route")
    .option("--target <name>", "about this")
    .option("--result <result>", "DONE, REFUSED or FAILED")
    .option("--since <time>", "not before this time, as 2026-11-25T10:00:00Z")
    .option("--until <time>", "before this time")
    .action(async ({ last, ...filter }: AuditOptions) => {
      for (const time of [filter.since, filter.until]) {
        if (time !== undefined && Number.isNaN(Date.parse(time)))
          throw new ConfigError(`${time} is no time. It is written as 2026-11-25T10:00:00Z.`);
      }
      const { auditRecords } = await api().query<{ auditRecords: { edges: { node: Record<string, unknown> }[] } }>(
        "auditRecords",
        { last, filter },
      );
      table(auditRecords.edges.map((edge) => edge.node));
    });

  const key = program.command("key").description("The keys that sign tokens.");
  key
    .command("list")
    .description("List the keys whose tokens are good, the one that signs first.")
    .action(async () => {
      const { signingKeys } = await api().query<{ signingKeys: Record<string, unknown>[] }>("signingKeys");
      table(signingKeys);
    });
  key
    .command("rotate")
    .description("Sign new tokens with a new key. Tokens that earlier keys signed stay good for some time.")
    .option("--keep-days <n>", "days for which earlier tokens stay good at most; 0 ends them at once", count)
    .action(async ({ keepDays }: { keepDays?: number }) => {
      const { signingKey } = await api().mutate<{ signingKey: { keyId: string } }>("rotateSigningKey", {
        keepEarlierDays: keepDays,
      });
      say(`${signingKey.keyId} signs from now on`);
    });
}
