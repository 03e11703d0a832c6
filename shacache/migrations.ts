import { Migration } from "@mikro-orm/migrations";

class CreateShacache extends Migration {
  override up(): void {
    this.addSql(`create table shacache.artifact (
      sha512 text collate "C" primary key,
      size_bytes bigint not null,
      created_at timestamptz not null,
      uploaded_by text not null
    )`);
    this.addSql("create sequence shacache.entry_number");
    this.addSql(`create table shacache.directory_entry (
      id text collate "C" primary key,
      key text collate "C" not null,
      body text not null,
      sha512 text,
      is_signed boolean not null,
      created_at timestamptz not null,
      sequence bigint not null,
      created_by text not null
    )`);
    // A key may be longer than an index row takes, so the index is over its hash.
    this.addSql("create index entry_key on shacache.directory_entry (md5(key), sequence desc)");
    this.addSql("create index entry_artifact on shacache.directory_entry (sha512, id)");
  }
}

export const shacacheMigrations = [{ name: "20261124_create_shacache", class: CreateShacache }];
