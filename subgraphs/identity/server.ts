import { openDatabase, pingDatabase } from "../../common/database.js";
import { naturalKeyOf } from "../../common/global-id.js";
import { buildSubgraph, type EntityReference } from "../../common/subgraph.js";
import type { SubgraphResources, SubgraphService } from "../../common/subgraph-service.js";
import { createIdentityLoaders, type IdentityContext } from "./context.js";
import { identityMigrations } from "./migrations.js";
import { PersonEntity } from "./person/person.entity.js";
import { PersonResolver, toPerson } from "./person/person.resolver.js";
import { PersonService } from "./person/person.service.js";
import { Person } from "./person/person.type.js";
import { ProjectEntity } from "./project/project.entity.js";
import { ProjectResolver, toProject } from "./project/project.resolver.js";
import { ProjectService } from "./project/project.service.js";
import { Project } from "./project/project.type.js";
import { TokenEntity } from "./token/token.entity.js";
import { TokenResolver, toToken } from "./token/token.resolver.js";
import { TokenService } from "./token/token.service.js";
import { Token } from "./token/token.type.js";

/** Opens the identity subgraph on the shared database. */
export async function openIdentity({
  databaseUrl,
  eventLog,
  tokens,
  log,
}: SubgraphResources): Promise<SubgraphService> {
  const orm = await openDatabase({
    url: databaseUrl,
    schema: "identity",
    entities: [ProjectEntity, PersonEntity, TokenEntity],
    migrations: identityMigrations,
    poolSize: 4,
    log,
  });
  const projectService = new ProjectService(orm, eventLog);
  const personService = new PersonService(orm, eventLog);
  const tokenService = new TokenService(orm, eventLog, tokens);
  const subgraph = await buildIdentitySchema(projectService, personService, tokenService);
  return {
    subgraph,
    startConsumers: () =>
      eventLog.consume(orm, "identity", (em, events) => tokenService.recordIssuedTokens(em, events)),
    checkReady: () => pingDatabase(orm),
    close: () => orm.close(true),
  };
}

export function buildIdentitySchema(projects: ProjectService, persons: PersonService, tokens: TokenService) {
  return buildSubgraph({
    name: "identity",
    resolvers: [new ProjectResolver(projects), new PersonResolver(persons), new TokenResolver(tokens)],
    entityTypes: [Project, Person, Token],
    references: {
      Project: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.projects.load(naturalKeyOf("Project", id));
        return row && toProject(row);
      },
      Person: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.persons.load(naturalKeyOf("Person", id));
        return row && toPerson(row);
      },
      Token: async ({ id }: EntityReference, { loaders }: IdentityContext) => {
        const row = await loaders.tokens.load(naturalKeyOf("Token", id));
        return row && toToken(row);
      },
    },
    createLoaders: createIdentityLoaders(projects, persons, tokens),
  });
}
