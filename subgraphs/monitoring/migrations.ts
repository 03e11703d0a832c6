import { Migration } from "@mikro-orm/migrations";

class CreateMonitoring extends Migration {
  override up(): void {
    this.addSql(`create table monitoring.partition_health (
      key text collate "C" primary key,
      project text not null,
      owner text,
      instance_reference text,
      health text not null,
      since timestamptz not null,
      message text,
      applied_position bigint not null
    )`);
    this.addSql("create index partition_health_instance on monitoring.partition_health (instance_reference)");
    this.addSql(`create table monitoring.computer_liveness (
      reference text collate "C" primary key,
      project text not null,
      liveness text not null,
      applied_position bigint not null
    )`);
    this.addSql("create sequence monitoring.bang_number");
    this.addSql(`create table monitoring.bang (
      id text collate "C" primary key,
      scope text not null,
      project text not null,
      computer_reference text collate "C" not null,
      partition_key text collate "C",
      instance_reference text,
      owner text,
      message text not null,
      actor text not null,
      at timestamptz not null,
      sequence bigint not null
    )`);
    this.addSql("create index bang_partition on monitoring.bang (partition_key, sequence desc)");
    this.addSql(
      "create index bang_computer on monitoring.bang (computer_reference, sequence desc) where scope = 'COMPUTER'",
    );
  }
}

export const monitoringMigrations = [{ name: "20261124_create_monitoring", class: CreateMonitoring }];
