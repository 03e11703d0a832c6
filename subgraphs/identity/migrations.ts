import { Migration } from "@mikro-orm/migrations";

class CreateIdentity extends Migration {
  override up(): void {
    this.addSql(`create table identity.project (
      name text collate "C" primary key,
      title text not null,
      created_at timestamptz not null
    )`);
    this.addSql("insert into identity.project values ('main', 'Main project', now())");
    this.addSql(`create table identity.person (
      subject text collate "C" primary key,
      display_name text not null,
      created_at timestamptz not null
    )`);
    this.addSql(`create table identity.token (
      id text collate "C" primary key,
      kind text not null,
      subject text not null,
      project text not null references identity.project,
      role text,
      issued_at timestamptz not null,
      expires_at timestamptz not null,
      revoked_at timestamptz
    )`);
    this.addSql("create index token_subject on identity.token (project, subject)");
  }
}

export const identityMigrations = [{ name: "20261124_create_identity", class: CreateIdentity }];
