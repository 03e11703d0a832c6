import { defineEntity, p } from "@mikro-orm/core";

export const ProductEntity = defineEntity({
  name: "SoftwareProduct",
  tableName: "product",
  properties: {
    /** `project/name` */
    key: p.text().primary(),
    project: p.text(),
    name: p.text(),
    title: p.text(),
    description: p.text(),
    createdAt: p.datetime(),
  },
});
