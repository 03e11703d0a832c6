import { registerEnumType } from "type-graphql";

/** GraphQL enums out of the state files' tuples, so that a state is written down once. */
function toEnum<Value extends string>(values: readonly Value[]): { [Key in Value]: Key } {
  return Object.fromEntries(values.map((value) => [value, value])) as { [Key in Value]: Key };
}

export function graphqlEnum<Value extends string>(
  name: string,
  description: string,
  meanings: { [Key in Value]: string },
): { [Key in Value]: Key } {
  const values = toEnum(Object.keys(meanings) as Value[]);
  const valuesConfig = Object.fromEntries(
    Object.entries<string>(meanings).map(([value, meaning]) => [value, { description: meaning }]),
  ) as { [Key in Value]: { description: string } };
  registerEnumType(values, { name, description, valuesConfig });
  return values;
}
