import { createHash } from "node:crypto";
import { Client } from "pg";
import type { RunningSystem } from "./running-system.js";

/** Every write that was answered with success, and whether it is still there. What was not answered may be there or not. */
export class Ledger {
  /** Texts that a node reported as the cause of an error, each once. */
  readonly reports: string[] = [];
  readonly requests: { reference: string; title: string }[] = [];
  readonly blobs: string[] = [];
  /** How far each list was looked through. */
  #checked = { reports: 0, requests: 0, blobs: 0 };

  get size(): number {
    return this.reports.length + this.requests.length + this.blobs.length;
  }

  /** What is in it now, for later. */
  snapshot(): Ledger {
    const copy = new Ledger();
    copy.reports.push(...this.reports);
    copy.requests.push(...this.requests);
    copy.blobs.push(...this.blobs);
    return copy;
  }

  /** What was answered and is not there, of all that came since the last look, or of everything. */
  async findLost(system: RunningSystem, { everything = false } = {}): Promise<string[]> {
    const from = everything ? { reports: 0, requests: 0, blobs: 0 } : this.#checked;
    const reports = this.reports.slice(from.reports);
    const requests = this.requests.slice(from.requests);
    const blobs = this.blobs.slice(from.blobs);
    this.#checked = {
      reports: from.reports + reports.length,
      requests: from.requests + requests.length,
      blobs: from.blobs + blobs.length,
    };
    const lost = await findLostReports(system.databaseUrl, reports);
    for (const { reference, title } of requests) {
      const { instance } = await system.graphql<{ instance: { title: string } | null }>(
        "query ($reference: String!) { instance(reference: $reference) { title } }",
        { reference },
      );
      if (instance?.title !== title) lost.push(`request ${title} (${reference})`);
    }
    for (const sha512 of blobs) if (!(await isBlobWhole(system, sha512))) lost.push(`blob ${sha512}`);
    return lost;
  }
}

/** A report that was answered is one event, not none and not two. */
async function findLostReports(databaseUrl: string, causes: string[]): Promise<string[]> {
  const rows = await readRows<{ cause: string; count: string }>(
    databaseUrl,
    "select cause, count(*) as count from event_log.event where cause = any($1) group by cause",
    [causes],
  );
  const counts = new Map(rows.map(({ cause, count }) => [cause, Number(count)]));
  return causes.filter((cause) => counts.get(cause) !== 1).map((cause) => `report ${cause} ×${counts.get(cause) ?? 0}`);
}

async function isBlobWhole(system: RunningSystem, sha512: string): Promise<boolean> {
  const response = await fetch(`${system.shacacheUrl}/shacache/${sha512}`);
  const bytes = Buffer.from(await response.arrayBuffer());
  if (response.status !== 200 || createHash("sha512").update(bytes).digest("hex") !== sha512) return false;
  const { artifact } = await system.graphql<{ artifact: { sizeBytes: number } | null }>(
    "query ($sha512: String!) { artifact(sha512: $sha512) { sizeBytes } }",
    { sha512 },
  );
  return artifact?.sizeBytes === bytes.length;
}

/** Asks the database itself, past all of ours. */
export async function readRows<Row>(databaseUrl: string, sql: string, parameters: unknown[] = []): Promise<Row[]> {
  const client = new Client({ connectionString: databaseUrl });
  client.on("error", () => undefined);
  await client.connect();
  try {
    return (await client.query(sql, parameters)).rows as Row[];
  } finally {
    await client.end();
  }
}
