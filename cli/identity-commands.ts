import { type Command, InvalidArgumentError } from "commander";
import type { Api } from "./api.js";
import { say, table } from "./output.js";

/** The service knows the bounds; what is no number it would never see, and take the default. */
export function count(text: string): number {
  if (/^-?\d+$/.test(text)) return Number(text);
  throw new InvalidArgumentError("It takes a whole number.");
}

/** Projects, persons, tokens, registration tokens and computers, as the API has them. */
export function addIdentityCommands(program: Command, api: () => Api): void {
  const project = program.command("project").description("Projects, which own everything else.");
  project
    .command("create <name>")
    .description("Create a project.")
    .option("--title <title>", "a title for people")
    .action(async (name: string, { title }: { title?: string }) => {
      await api().mutate("createProject", { name, title });
      say(`created ${name}`);
    });
  project
    .command("list")
    .description("List the projects that the token sees.")
    .action(async () => table(await api().list("projects")));

  const person = program.command("person").description("People, who hold roles by their tokens.");
  person
    .command("create <subject>")
    .description("Create a person.")
    .option("--name <name>", "a name for people")
    .action(async (subject: string, { name }: { name?: string }) => {
      await api().mutate("createPerson", {
        subject,
        displayName: name,
      });
      say(`created ${subject}`);
    });
  person
    .command("list")
    .description("List the people that the token sees.")
    .action(async () => {
      const persons = await api().list<PersonRow>("persons");
      table(
        persons.map(({ roles, ...person }) => ({
          ...person,
          roles: roles.map(({ project, role }) => `${project}:${role}`).join(",") || "-",
        })),
      );
    });
  person
    .command("revoke <subject>")
    .description("Take a person out of a project: revoke its tokens there, and the registration tokens that it made.")
    .option("--project <name>", "the project")
    .action(async (subject: string, options: { project?: string }) => {
      const name = "revokeRole";
      const input = { person: subject, project: options.project };
      const { tokens } = await api().mutate<{ tokens: object[] }>(name, input);
      say(`revoked ${tokens.length} tokens of ${subject}`);
    });

  const token = program.command("token").description("Tokens of people and computers.");
  token
    .command("create")
    .description("Create a token and print it: it is shown once. Give --person with --role, --computer or --instance.")
    .option("--person <subject>", "the person it is for")
    .option("--role <role>", "OWNER, USER or VIEWER")
    .option("--computer <reference>", "the computer it is for")
    .option("--instance <reference>", "the instance it is for")
    .option("--project <name>", "the project it is good in")
    .option("--days <n>", "days until it expires", count)
    .action(
      async ({
        person: subject,
        role,
        computer,
        instance,
        project: name,
        days,
      }: Record<string, string> & { days?: number }) => {
        if (instance !== undefined) {
          const field = "createInstanceToken";
          const input = { reference: instance, expiresInDays: days };
          return say((await api().mutate<{ credential: string }>(field, input)).credential);
        }
        const { secret } = await api().mutate<{ secret: string }>("createToken", {
          person: subject,
          role,
          computerReference: computer,
          project: name,
          expiresInDays: days,
        });
        say(secret);
      },
    );
  token
    .command("list")
    .description("List the tokens that the token sees.")
    .action(async () => table(await api().list("tokens")));
  token
    .command("revoke <id>")
    .description("Revoke a token by its id.")
    .action(async (id: string) => {
      await api().mutate("revokeToken", { id });
      say(`revoked ${id}`);
    });

  const registration = program.command("registration").description("Tokens with which nodes register themselves.");
  registration
    .command("create")
    .description("Create a registration token and print it, for slapos node register --token.")
    .option("--uses <n>", "how many nodes may use it", count)
    .option("--hours <n>", "hours until it expires", count)
    .option("--project <name>", "the project that nodes enter")
    .action(async (options: { uses?: number; hours?: number; project?: string }) => {
      const name = "createRegistrationToken";
      const input = { uses: options.uses, expiresInHours: options.hours, project: options.project };
      say((await api().mutate<{ secret: string }>(name, input)).secret);
    });
  registration
    .command("list")
    .description("List the registration tokens that the token sees.")
    .action(async () => table(await api().list("registrationTokens")));
  registration
    .command("revoke <id>")
    .description("Revoke a registration token by its id.")
    .action(async (id: string) => {
      const name = "revokeRegistrationToken";
      await api().mutate(name, { id });
      say(`revoked ${id}`);
    });

  const computer = program.command("computer").description("Computers, which run nodes.");
  computer
    .command("create [reference]")
    .description("Create a computer and print its node's master_url, which holds its credential.")
    .option("--title <title>", "a title for people")
    .option("--project <name>", "the project that it belongs to")
    .action(async (reference: string | undefined, options: { title?: string; project?: string }) => {
      const name = "createComputer";
      const { masterUrl } = await api().mutate<{ masterUrl: string }>(name, {
        reference,
        ...options,
      });
      say(masterUrl);
    });
  computer
    .command("list")
    .description("List the computers that the token sees.")
    .action(async () => table(await api().list("computers")));
}

interface PersonRow {
  roles: { project: string; role: string }[];
}
