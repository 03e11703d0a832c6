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

/** Blobs get names of their own in the store, and digests per chunk. Those of before are named by their digest, without chunk digests. */
class NameAndVerifyBlobs extends Migration {
  override up(): void {
    this.addSql('alter table shacache.artifact add column location text collate "C"');
    this.addSql("update shacache.artifact set location = sha512");
    this.addSql("alter table shacache.artifact alter column location set not null");
    this.addSql("alter table shacache.artifact add column project text not null default 'main'");
    this.addSql("alter table shacache.artifact add column chunk_key bytea, add column chunk_tags bytea");
    // Tags are random: compressing them costs time and saves nothing.
    this.addSql("alter table shacache.artifact alter column chunk_tags set storage external");
    this.addSql("create unique index artifact_location on shacache.artifact (location)");
    this.addSql("alter table shacache.directory_entry add column project text not null default 'main'");
  }
}

/** Where the scrub stands in its present pass, and how the last whole one went. One row. */
class KeepPlaceOfScrub extends Migration {
  override up(): void {
    this.addSql(`create table shacache.scrub (
      one boolean primary key default true check (one),
      place text collate "C" not null default '',
      started_at timestamptz,
      finished_at timestamptz,
      checked_blobs bigint not null default 0,
      checked_bytes bigint not null default 0,
      quarantined bigint not null default 0
    )`);
    this.addSql("insert into shacache.scrub default values");
  }
}

export const shacacheMigrations = [
  { name: "20261124_create_shacache", class: CreateShacache },
  { name: "20261125_name_and_verify_blobs", class: NameAndVerifyBlobs },
  { name: "20261125_keep_place_of_scrub", class: KeepPlaceOfScrub },
];
