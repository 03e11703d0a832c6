/** Levels of lists and objects that are taken of anybody: what writes deeper ones out again runs out of stack. */
export const maxNesting = 50;

/** Whether lists and objects nest deeper than is taken. */
export function nestsTooDeep(value: unknown, levels = maxNesting): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((one) => nestsTooDeep(one, levels - 1));
}
