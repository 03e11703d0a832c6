import { readFileSync } from "node:fs";
import { transformSupergraphToPublicSchema } from "@theguild/federation-composition";
import { buildSchema, isEnumType, isInputObjectType, isInterfaceType, isObjectType, parse, print } from "graphql";
import { expect, test } from "vitest";

const supergraph = readFileSync(new URL("../../schema/supergraph.graphql", import.meta.url), "utf8");
const schema = buildSchema(print(transformSupergraphToPublicSchema(parse(supergraph))));

test("every public type, field, argument and enum value says what it is", () => {
  const silent: string[] = [];
  const note = (name: string, description: string | null | undefined) => {
    if (!description?.trim()) silent.push(name);
  };
  for (const type of Object.values(schema.getTypeMap())) {
    if (
      type.name.startsWith("__") ||
      ["String", "Int", "Float", "Boolean", "ID", "Query", "Mutation", "Subscription"].includes(type.name)
    ) {
      if (!isObjectType(type)) continue;
    } else note(type.name, type.description);
    if (type.name.startsWith("__")) continue;
    if (isEnumType(type)) for (const value of type.getValues()) note(`${type.name}.${value.name}`, value.description);
    if (isInputObjectType(type))
      for (const field of Object.values(type.getFields())) note(`${type.name}.${field.name}`, field.description);
    if (isObjectType(type) || isInterfaceType(type)) {
      for (const field of Object.values(type.getFields())) {
        note(`${type.name}.${field.name}`, field.description);
        for (const argument of field.args) note(`${type.name}.${field.name}(${argument.name})`, argument.description);
      }
    }
  }
  expect(silent).toEqual([]);
});

test("the operations that scripts lean on have the shape that was promised to them", () => {
  const fieldsOf = (name: string) => Object.keys((schema.getType(name) as { getFields(): object }).getFields());
  expect(fieldsOf("Query")).toEqual(
    expect.arrayContaining(
      "computer computers partition instance instances softwareRelease softwareProducts artifact node nodes".split(" "),
    ),
  );
  expect(fieldsOf("Mutation")).toEqual(
    expect.arrayContaining(
      `createProject createToken revokeToken createComputer supplySoftware withdrawSoftware requestInstance startInstance stopInstance destroyInstance
       renameInstance cordonComputer uncordonComputer bangInstance bangComputer createSoftwareProduct publishSoftwareRelease`.split(
        /\s+/,
      ),
    ),
  );
  expect(fieldsOf("Subscription")).toEqual(
    expect.arrayContaining("partitionStateChanged computerStateChanged installationStateChanged".split(" ")),
  );
});
