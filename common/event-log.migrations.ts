import { Migration } from "@mikro-orm/migrations";

class CreateEventLog extends Migration {
  override up(): void {
    this.addSql("create sequence event_log.event_position as bigint");
    this.addSql(`create table event_log.event (
      transaction xid8 not null,
      position bigint primary key,
      at timestamptz not null default clock_timestamp(),
      kind text not null,
      subject text not null,
      project text not null,
      actor text not null,
      cause text,
      payload jsonb not null
    )`);
    this.addSql("create index event_subject on event_log.event (subject, position)");
    this.addSql("create table event_log.consumer (name text primary key, position bigint not null default 0)");
    // One row: events up to this position were dropped, so a cursor before it cannot be resumed.
    this.addSql(
      "create table event_log.retention (one boolean primary key default true check (one), kept_after bigint not null default 0)",
    );
    this.addSql("insert into event_log.retention default values");
    this.addSql(`create table event_log.revoked_token (
      token_id text primary key,
      expires_at timestamptz not null,
      revoked_at timestamptz not null default now()
    )`);
  }
}

/** Written by every service in the transaction of what it records, and read by identity. */
class CreateAuditTrail extends Migration {
  override up(): void {
    this.addSql("create sequence event_log.audit_number as bigint");
    this.addSql(`create table event_log.audit_record (
      id text collate "C" primary key default lpad(nextval('event_log.audit_number')::text, 16, '0'),
      at timestamptz not null default clock_timestamp(),
      actor text not null,
      actor_kind text not null,
      token_id text,
      project text,
      door text not null,
      action text not null,
      target text,
      result text not null,
      code text,
      request_id text not null
    )`);
    this.addSql("create index audit_project on event_log.audit_record (project, id)");
    this.addSql("create index audit_actor on event_log.audit_record (actor, id)");
    this.addSql("create index audit_at on event_log.audit_record (at)");
  }
}

export const eventLogMigrations = [
  { name: "20261124_create_event_log", class: CreateEventLog },
  { name: "20261125_create_audit_trail", class: CreateAuditTrail },
];
