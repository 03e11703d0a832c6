import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append, EventLog } from "../../../common/event-log.js";
import { type Caller, mayOwn } from "../../../common/identity.js";
import { pagePerParent } from "../../../common/page-per-parent.js";
import type { Page } from "../../../common/pagination.js";
import { ComputerEntity } from "../computer/computer.entity.js";
import { noComputer } from "../computer/computer.service.js";
import { raiseComputer } from "../revision.js";
import { speaksForComputer, visibleComputers, visibleInstallations } from "../visibility.js";
import { InstallationEntity } from "./installation.entity.js";
import { acceptsReport, type ReportedInstallationState } from "./installation.state.js";

export type InstallationRow = InferEntity<typeof InstallationEntity>;

/** The end of a build's output is where the error is. */
const maxErrorLogLength = 256 * 1024;
const maxUrlLength = 2_000;

export const installationKey = (computerReference: string, url: string) => `${computerReference} ${url}`;

export class InstallationService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Asks a computer to install a release. Idempotent. Owners of the computer's project only. */
  async supplySoftware(caller: Caller, computerReference: string, url: string): Promise<InstallationRow> {
    checkReleaseUrl(url);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      const computer = await this.#requireOwned(em, caller, computerReference);
      await raiseComputer(em, computerReference);
      const key = installationKey(computerReference, url);
      const present = await em.findOne(InstallationEntity, { key });
      if (present?.requestedState === "AVAILABLE") return present;
      const now = new Date();
      const from = present?.reportedState ?? "NONE";
      const row =
        present ??
        em.create(InstallationEntity, {
          key,
          computerReference,
          project: computer.project,
          url,
          requestedState: "AVAILABLE",
          reportedState: "NONE",
          reportedSince: now,
          errorLog: null,
          createdAt: now,
        });
      // Supplied again after its destruction was asked for: what the node said before is about the old one.
      row.requestedState = "AVAILABLE";
      row.reportedState = "NONE";
      row.reportedSince = now;
      row.errorLog = null;
      await em.flush();
      await append(installationStateChanged(row, from, caller.subject, null));
      return row;
    });
  }

  /** Asks a computer to remove a release; null where it was never supplied. Idempotent. */
  async withdrawSoftware(caller: Caller, computerReference: string, url: string): Promise<InstallationRow | null> {
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      await this.#requireOwned(em, caller, computerReference);
      await raiseComputer(em, computerReference);
      const row = await em.findOne(InstallationEntity, { key: installationKey(computerReference, url) });
      if (!row) return null;
      if (row.requestedState === "DESTROYED") return row;
      row.requestedState = "DESTROYED";
      await em.flush();
      await append(installationStateChanged(row, row.reportedState, caller.subject, null));
      return row;
    });
  }

  /** A node's report. Ignored, not refused, where it says nothing new about anything asked for: the node cannot help it. */
  async reportInstallation(
    caller: Caller,
    computerReference: string,
    url: string,
    state: ReportedInstallationState,
    errorLog: string | null = null,
  ): Promise<void> {
    if (!speaksForComputer(caller, computerReference)) throw noComputer(computerReference);
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      if (!(await raiseComputer(em, computerReference))) throw noComputer(computerReference);
      const row = await em.findOne(InstallationEntity, { key: installationKey(computerReference, url) });
      if (!row) throw new AppError("NOT_FOUND", `${computerReference} was not asked to install ${url.slice(0, 200)}.`);
      if (!acceptsReport(row.requestedState, state)) return;
      const from = row.reportedState;
      row.errorLog = errorLog === null ? null : errorLog.slice(-maxErrorLogLength);
      if (from !== state) {
        row.reportedState = state;
        row.reportedSince = new Date();
        await append(
          installationStateChanged(row, from, caller.subject, errorLog === null ? null : errorLog.slice(-500)),
        );
      }
    });
  }

  /** One page of installations for each of the computers, in one go. */
  async installationsOfComputers(
    caller: Caller,
    references: readonly string[],
    page: Page,
  ): Promise<InstallationRow[][]> {
    return pagePerParent(this.#orm.em.fork(), {
      entity: InstallationEntity,
      parents: references,
      parentSql: '"row"."computer_reference"',
      parentOf: (row) => row.computerReference,
      key: "key",
      where: { $and: [{ computerReference: { $in: [...references] } }, visibleInstallations(caller)] },
      page,
    });
  }

  async installationsByKey(caller: Caller, keys: readonly string[]): Promise<(InstallationRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(InstallationEntity, { $and: [{ key: { $in: [...keys] } }, visibleInstallations(caller)] });
    const byKey = new Map(rows.map((row) => [row.key, row]));
    return keys.map((key) => byKey.get(key) ?? null);
  }

  async #requireOwned(em: EntityManager, caller: Caller, reference: string) {
    const computer = await em.findOne(ComputerEntity, { $and: [{ reference }, visibleComputers(caller)] });
    if (!computer) throw noComputer(reference);
    if (!mayOwn(caller, computer.project))
      throw new AppError("FORBIDDEN", "Supplying software takes the role OWNER in the computer's project.");
    return computer;
  }
}

/** A release's url is a URL or an absolute path, without white space or control characters. */
export function checkReleaseUrl(url: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here.
  if (url.length === 0 || url.length > maxUrlLength || /[\s\x00-\x1f\x7f]/.test(url)) {
    throw new AppError("BAD_USER_INPUT", `A release's url is 1 to ${maxUrlLength} characters without white space.`, {
      details: { path: ["input", "releaseUrl"] },
    });
  }
}

function installationStateChanged(
  row: InstallationRow,
  from: string,
  actor: string,
  cause: string | null,
): Parameters<Append>[number] {
  return {
    kind: "InstallationStateChanged",
    subject: row.key,
    project: row.project,
    actor,
    cause,
    payload: {
      from,
      to: row.reportedState,
      requested: row.requestedState,
      computer: row.computerReference,
      url: row.url,
    },
  };
}
