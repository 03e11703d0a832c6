import type { EntityManager } from "../../common/database.js";
import type { LoggedEvent } from "../../common/event-log.js";

const catalog = "catalog";

/** The kinds of events that say who needs a release. */
export const releaseUseKinds = [
  "SoftwareReleasePublished",
  "SoftwareReleaseDeprecated",
  "SoftwareReleaseWithdrawn",
  "InstallationStateChanged",
];

/**
 * Keeps who needs a release: the catalog from its publication to its withdrawal, a computer while it is to have it
 * installed. What a needed release is built of is not collected. Idempotent.
 */
export async function recordReleaseUse(em: EntityManager, events: LoggedEvent[]): Promise<void> {
  for (const { kind, subject, payload } of events) {
    if (kind === "SoftwareReleasePublished" || kind === "SoftwareReleaseDeprecated") await hold(em, subject, catalog);
    if (kind === "SoftwareReleaseWithdrawn") await release(em, subject, catalog);
    if (kind !== "InstallationStateChanged") continue;
    const { url, computer, requested } = payload as { url?: string; computer?: string; requested?: string };
    if (url === undefined || computer === undefined) continue;
    await (requested === "DESTROYED" ? release : hold)(em, url, computer);
  }
}

async function hold(em: EntityManager, url: string, holder: string): Promise<void> {
  await em.execute("insert into shacache.release_use (url, holder) values (?, ?) on conflict do nothing", [
    url,
    holder,
  ]);
}

async function release(em: EntityManager, url: string, holder: string): Promise<void> {
  await em.execute("delete from shacache.release_use where url = ? and holder = ?", [url, holder]);
}
