/** While bars are drawn on the terminal, lines go above them. */
let writeAbove: ((line: string) => void) | null = null;

export function drawBars(above: ((line: string) => void) | null): void {
  writeAbove = above;
}

export function say(text: string): void {
  if (writeAbove && process.stdout.isTTY) writeAbove(`${text}\n`);
  else process.stdout.write(`${text}\n`);
}

/** For the person at the terminal; what is on stdout stays for the next command. */
export function tell(text: string): void {
  const line = `slapgraph: ${text}\n`;
  if (writeAbove) writeAbove(line);
  else process.stderr.write(line);
}

/** Columns under their names, for eyes and for `awk`. */
export function table(rows: Record<string, unknown>[]): void {
  const names = Object.keys(rows[0] ?? {});
  if (names.length === 0) {
    say("none");
    return;
  }
  const cells = [names, ...rows.map((row) => names.map((name) => String(row[name] ?? "-")))];
  const widths = names.map((_, column) => Math.max(...cells.map((line) => line[column]?.length ?? 0)));
  for (const line of cells)
    say(
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
}
