import type { MikroORM } from "@mikro-orm/postgresql";

/** The index as all migrations together leave it. */
const statements = [
  `create table if not exists shacache.artifact (
    sha512 text collate "C" primary key,
    size_bytes bigint not null,
    created_at timestamptz not null,
    uploaded_by text not null,
    location text collate "C" not null,
    project text not null default 'main',
    chunk_key bytea,
    chunk_tags bytea storage external,
    renewed_at timestamptz not null,
    last_read_at timestamptz,
    read_count bigint not null default 0,
    is_pinned boolean not null default false
  )`,
  "create unique index if not exists artifact_location on shacache.artifact (location)",
  "create index if not exists artifact_project on shacache.artifact (project, sha512)",
  `create table if not exists shacache.directory_entry (
    id text collate "C" primary key,
    key text collate "C" not null,
    body text not null,
    sha512 text,
    is_signed boolean not null,
    created_at timestamptz not null,
    sequence bigint not null,
    created_by text not null,
    project text not null default 'main',
    release_url text,
    is_pinned boolean not null default false,
    is_recorded boolean not null default false
  )`,
  "create index if not exists entry_key on shacache.directory_entry (md5(key), sequence desc)",
  "create index if not exists entry_artifact on shacache.directory_entry (sha512, id)",
  "create index if not exists entry_release on shacache.directory_entry (release_url) where release_url is not null",
  "create index if not exists entry_unrecorded on shacache.directory_entry (id) where not is_recorded",
];

/** Makes the tables of the index where somebody dropped them, which the migrations would not do again. True if one was gone. */
export async function makeIndexTables(orm: MikroORM): Promise<boolean> {
  const em = orm.em.fork();
  const [found] = await em.execute<{ is_there: boolean }[]>(
    "select to_regclass('shacache.artifact') is not null and to_regclass('shacache.directory_entry') is not null as is_there",
  );
  if (found?.is_there) return false;
  await em.transactional(async (transaction) => {
    for (const statement of statements) await transaction.execute(statement);
  });
  return true;
}
