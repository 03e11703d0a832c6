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

class TrustAndRetain extends Migration {
  override up(): void {
    this.addSql(`create table shacache.cache_policy (
      project text collate "C" primary key,
      untrusted_entries text not null,
      quota_bytes bigint,
      max_blob_bytes bigint,
      uploads_per_minute int,
      max_age_days int,
      max_unread_days int,
      newest_per_key int
    )`);
    this.addSql(`create table shacache.trusted_certificate (
      id text collate "C" primary key,
      project text not null,
      title text not null,
      pem text not null,
      created_at timestamptz not null,
      created_by text not null,
      distrusted_at timestamptz
    )`);
    this.addSql("create index trusted_certificate_project on shacache.trusted_certificate (project)");
    this.addSql("alter table shacache.artifact add column renewed_at timestamptz");
    this.addSql("update shacache.artifact set renewed_at = now()");
    this.addSql(`alter table shacache.artifact alter column renewed_at set not null,
      add column last_read_at timestamptz,
      add column read_count bigint not null default 0,
      add column is_pinned boolean not null default false`);
    this.addSql("create index artifact_project on shacache.artifact (project, sha512)");
    this.addSql(`alter table shacache.directory_entry add column release_url text,
      add column is_pinned boolean not null default false`);
    this.addSql("create index entry_release on shacache.directory_entry (release_url) where release_url is not null");
    // Who needs a release: the catalog while it is published, each computer while it is to be installed there.
    this.addSql(`create table shacache.release_use (
      url text collate "C" not null,
      holder text not null,
      primary key (url, holder)
    )`);
    this.addSql(`create table shacache.read_day (
      day date primary key,
      hits bigint not null default 0,
      misses bigint not null default 0,
      bytes bigint not null default 0
    )`);
  }
}

/** Which computer took which blob. */
class KeepTakings extends Migration {
  override up(): void {
    this.addSql(`create table shacache.computer_artifact (
      computer text collate "C" not null,
      sha512 text collate "C" not null,
      project text not null,
      first_at timestamptz not null,
      last_at timestamptz not null,
      downloads int not null,
      uploads int not null,
      moment text collate "C" not null,
      primary key (computer, sha512)
    )`);
    this.addSql("create unique index computer_artifact_moment on shacache.computer_artifact (moment)");
    this.addSql("create index computer_artifact_computer on shacache.computer_artifact (computer, moment)");
    this.addSql("create index computer_artifact_sha512 on shacache.computer_artifact (sha512, moment)");
    this.addSql("create index computer_artifact_last on shacache.computer_artifact (last_at)");
  }
}

/** What the index can be made anew from, and how that stands. */
class RecordEntries extends Migration {
  override up(): void {
    this.addSql("alter table shacache.directory_entry add column is_recorded boolean not null default false");
    this.addSql("create index entry_unrecorded on shacache.directory_entry (id) where not is_recorded");
    // In an index that is made anew, what is entered from now on has to come after all that is restored: no store has
    // been given entries faster than one a millisecond since 1970.
    this.addSql(`select setval('shacache.entry_number',
      greatest((select last_value from shacache.entry_number), (extract(epoch from now()) * 1000)::bigint))`);
    this.addSql(`create table shacache.reindex (
      one boolean primary key default true check (one),
      started_at timestamptz,
      finished_at timestamptz,
      entries bigint not null default 0,
      artifacts bigint not null default 0,
      bytes bigint not null default 0,
      failure text
    )`);
    this.addSql("insert into shacache.reindex default values");
  }
}

export const shacacheMigrations = [
  { name: "20261124_create_shacache", class: CreateShacache },
  { name: "20261125_name_and_verify_blobs", class: NameAndVerifyBlobs },
  { name: "20261125_keep_place_of_scrub", class: KeepPlaceOfScrub },
  { name: "20261125_trust_and_retain", class: TrustAndRetain },
  { name: "20261125_keep_takings", class: KeepTakings },
  { name: "20261125_record_entries", class: RecordEntries },
];
