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

class CreateCertificate extends Migration {
  override up(): void {
    this.addSql(`create table identity.certificate (
      id text collate "C" primary key,
      kind text not null,
      subject text not null,
      project text not null references identity.project,
      issued_at timestamptz not null,
      expires_at timestamptz not null,
      revoked_at timestamptz,
      sealed_pair text
    )`);
    this.addSql("create index certificate_active on identity.certificate (subject) where revoked_at is null");
    this.addSql(`create table identity.registration_token (
      id text collate "C" primary key,
      project text not null references identity.project,
      secret_digest text not null unique,
      uses integer not null,
      created_by text not null,
      created_at timestamptz not null,
      expires_at timestamptz not null,
      revoked_at timestamptz
    )`);
    this.addSql(`create table identity.registration (
      token_id text not null references identity.registration_token,
      title text not null,
      computer_reference text,
      primary key (token_id, title)
    )`);
  }
}

export const identityMigrations = [
  { name: "20261124_create_identity", class: CreateIdentity },
  { name: "20261125_create_certificate", class: CreateCertificate },
];
