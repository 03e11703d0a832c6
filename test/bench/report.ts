/** What all suites print in: rows of figures, each as a ratio to a named peer that was measured in the same run. */

export interface Row {
  work: string;
  ours: number;
  /** The peer's figure, in the same unit; higher is better for both. */
  peer: number;
  peerName: string;
  /** The ratio that is wanted at least. */
  goal: number;
}

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printRow({ work, ours, peer, peerName, goal }: Row): void {
  const ratio = ours / peer;
  const verdict = ratio >= goal ? "met" : "MISSED";
  say(
    `${work.padEnd(56)} ${format(ours).padStart(10)}/s  ${format(ratio).padStart(7)} × ${peerName} (${format(peer)}/s), goal ${goal}: ${verdict}`,
  );
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function format(value: number): string {
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3);
}

const peers: (() => Promise<unknown> | unknown)[] = [];

/** Something that was started for a suite and has to end with it, whatever happens. */
export function endAfterwards(end: () => Promise<unknown> | unknown): void {
  peers.push(end);
}

export async function endPeers(): Promise<void> {
  for (const end of peers.splice(0).reverse()) await end();
}
