import { defineEntity, p } from "@mikro-orm/core";

export const ProjectEntity = defineEntity({
  name: "Project",
  tableName: "project",
  properties: { name: p.text().primary(), title: p.text(), createdAt: p.datetime() },
});
