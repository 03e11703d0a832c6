import { Migration } from "@mikro-orm/migrations";

class CreateComputer extends Migration {
  override up(): void {
    this.addSql("create sequence computer.computer_number");
    this.addSql("create sequence computer.instance_number");
    this.addSql(`create table computer.computer (
      reference text collate "C" primary key,
      project text not null,
      title text not null,
      scope text not null,
      liveness text not null,
      liveness_since timestamptz not null,
      last_contact_at timestamptz,
      created_at timestamptz not null,
      revision bigint not null,
      formatted_at timestamptz,
      slapos_version text,
      python_version text,
      os_type text
    )`);
    this.addSql("create index computer_project on computer.computer (project, reference)");
    this.addSql(`create table computer.instance (
      reference text collate "C" primary key,
      project text not null,
      title text not null,
      root_reference text not null,
      parent_reference text,
      owner text not null,
      release_url text not null,
      software_type text not null,
      is_shared boolean not null,
      parameters jsonb not null,
      filter jsonb not null,
      requested_state text not null,
      allocation text not null,
      pending_reasons jsonb not null,
      partition_key text collate "C",
      reported_state text not null,
      connection_parameters jsonb not null,
      created_at timestamptz not null
    )`);
    // A title names one root per owner and one member per tree, among those that still live.
    this.addSql(`create unique index instance_root_title on computer.instance (project, owner, title)
      where parent_reference is null and allocation <> 'RELEASED'`);
    this.addSql(`create unique index instance_child_title on computer.instance (root_reference, title)
      where parent_reference is not null and allocation <> 'RELEASED'`);
    this.addSql("create index instance_tree on computer.instance (root_reference)");
    this.addSql("create index instance_project on computer.instance (project, reference)");
    this.addSql("create index instance_pending on computer.instance (reference) where allocation = 'PENDING'");
    this.addSql(`create unique index instance_partition on computer.instance (partition_key)
      where allocation = 'ALLOCATED' and not is_shared`);
    this.addSql(`create table computer.partition (
      key text collate "C" primary key,
      computer_reference text collate "C" not null references computer.computer,
      reference text not null,
      project text not null,
      state text not null,
      state_since timestamptz not null,
      message text,
      revision bigint not null,
      capabilities jsonb not null,
      addresses jsonb not null,
      routed_addresses jsonb not null,
      is_listed boolean not null,
      instance_reference text collate "C" references computer.instance,
      owner text
    )`);
    this.addSql("create index partition_computer on computer.partition (computer_reference, key)");
    this.addSql(
      "create index partition_free on computer.partition (computer_reference) where state = 'FREE' and is_listed",
    );
    this.addSql("create unique index partition_instance on computer.partition (instance_reference)");
    this.addSql(`create table computer.installation (
      key text collate "C" primary key,
      computer_reference text collate "C" not null references computer.computer,
      project text not null,
      url text not null,
      requested_state text not null,
      reported_state text not null,
      reported_since timestamptz not null,
      error_log text,
      created_at timestamptz not null
    )`);
    this.addSql("create index installation_computer on computer.installation (computer_reference, key)");
  }
}

class ShareInstances extends Migration {
  override up(): void {
    this.addSql("alter table computer.computer add column attributes jsonb not null default '{}'");
    this.addSql(
      "alter table computer.instance add column number bigint, add column revision bigint not null default 0",
    );
    this.addSql("update computer.instance set number = substr(reference, length('SOFTINST-') + 1)::bigint");
    this.addSql("alter table computer.instance alter column number set not null, alter column revision drop default");
    this.addSql("drop index computer.instance_pending");
    this.addSql("create index instance_pending on computer.instance (project, number) where allocation = 'PENDING'");
    this.addSql(`create index instance_shared on computer.instance (partition_key)
      where allocation = 'ALLOCATED' and is_shared`);
    this.addSql(`create index instance_host on computer.instance (project, release_url, software_type)
      where allocation = 'ALLOCATED' and not is_shared`);
    // Room is looked for per project, in the order of the computers, among what is free only.
    this.addSql("drop index computer.partition_free");
    this.addSql(
      "create index partition_free on computer.partition (project, computer_reference) where state = 'FREE' and is_listed",
    );
  }
}

class KeepUsage extends Migration {
  override up(): void {
    this.addSql("create sequence computer.usage_number");
    this.addSql(`create table computer.usage_report (
      id text collate "C" primary key,
      computer_reference text collate "C" not null references computer.computer,
      project text not null,
      at timestamptz not null,
      tioxml text not null
    )`);
    this.addSql("create index usage_report_computer on computer.usage_report (computer_reference, id)");
    // A computer that registers by its title is found by it.
    this.addSql("create index computer_title on computer.computer (project, title)");
  }
}

class FindRoomByComputer extends Migration {
  override up(): void {
    // Candidates are computers; the first free partition of one is then found without sorting all of them.
    this.addSql("drop index computer.partition_free");
    this.addSql(`create index partition_free on computer.partition (computer_reference, length(key), key)
      where state = 'FREE' and is_listed`);
    this.addSql(`create index installation_release on computer.installation (url, computer_reference)
      where requested_state = 'AVAILABLE'`);
  }
}

export const computerMigrations = [
  { name: "20261124_create_computer", class: CreateComputer },
  { name: "20261125_share_instances", class: ShareInstances },
  { name: "20261126_keep_usage", class: KeepUsage },
  { name: "20261127_find_room_by_computer", class: FindRoomByComputer },
];
