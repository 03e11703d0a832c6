import { Migration } from "@mikro-orm/migrations";

class CreateCatalog extends Migration {
  override up(): void {
    this.addSql("create sequence catalog.release_number");
    this.addSql(`create table catalog.product (
      key text collate "C" primary key,
      project text not null,
      name text not null,
      title text not null,
      description text not null,
      created_at timestamptz not null
    )`);
    this.addSql(`create table catalog.release (
      url text collate "C" primary key,
      product_key text collate "C" not null references catalog.product,
      project text not null,
      version text,
      state text not null,
      published_at timestamptz not null,
      sequence bigint not null
    )`);
    this.addSql("create index release_product on catalog.release (product_key, sequence desc)");
  }
}

export const catalogMigrations = [{ name: "20261124_create_catalog", class: CreateCatalog }];
