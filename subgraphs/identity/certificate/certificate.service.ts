import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import type { CertificateAuthority, CertificateClaims } from "../../../common/certificates.js";
import type { EntityManager } from "../../../common/database.js";
import { AppError } from "../../../common/errors.js";
import type { Append, EventLog, LoggedEvent } from "../../../common/event-log.js";
import { parseGlobalId } from "../../../common/global-id.js";
import { type Caller, mayOwn } from "../../../common/identity.js";
import { keyset, type Page } from "../../../common/pagination.js";
import { type RevocationList, recordRevocation, tokenRevokedKind } from "../../../common/revocations.js";
import { CertificateEntity } from "./certificate.entity.js";

export type CertificateRow = InferEntity<typeof CertificateEntity>;

export interface KeyPair {
  certificate: string;
  key: string;
}

/** A computer or an instance that the computer subgraph vouches for: it exists, in this project. */
export interface Holder {
  reference: string;
  project: string;
}

const lifetimeDays = 3650;

export class CertificateService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #authority: CertificateAuthority;
  readonly #revocations: RevocationList;

  constructor(orm: MikroORM, eventLog: EventLog, authority: CertificateAuthority, revocations: RevocationList) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#authority = authority;
    this.#revocations = revocations;
  }

  /** A computer has one good certificate at a time: STATE_CONFLICT while there is one. Owners, and the node itself. */
  async createComputerCertificate(caller: Caller, computer: Holder): Promise<KeyPair> {
    requireOwnerOrNode(caller, computer);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      await lockHolder(em, computer.reference);
      if (await findActive(em, "node", computer.reference)) {
        throw new AppError(
          "STATE_CONFLICT",
          `Certificate still active. Revoke that of ${computer.reference} first, or choose another name.`,
        );
      }
      const { certificate, key } = await this.#issue(em, append, caller, computer, "node");
      return { certificate, key };
    });
  }

  /** NOT_FOUND when there is none. Refused at this door from the next request on, at others within a second. */
  async revokeComputerCertificate(caller: Caller, computer: Holder): Promise<void> {
    requireOwnerOrNode(caller, computer);
    const id = await this.#eventLog.transact(this.#orm, async (em, append) => {
      await lockHolder(em, computer.reference);
      const row = await findActive(em, "node", computer.reference);
      if (!row) throw new AppError("NOT_FOUND", `${computer.reference} has no certificate to revoke.`);
      await revoke(em, append, caller.subject, row);
      return row.id;
    });
    this.#revocations.add(id);
  }

  /**
   * The pair that an instance identifies itself with: made at the first call, the same at every later one, because the
   * node writes it anew when it differs. For whom the computer subgraph has just answered about the instance's partition.
   */
  async instanceCertificate(caller: Caller, instance: Holder): Promise<KeyPair> {
    const known = await findActive(this.#orm.em.fork(), "instance", instance.reference);
    if (known?.sealedPair) return this.#unseal(known.sealedPair);
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      await lockHolder(em, instance.reference);
      const present = await findActive(em, "instance", instance.reference);
      if (present?.sealedPair) return this.#unseal(present.sealedPair);
      const { certificate, key } = await this.#issue(em, append, caller, instance, "instance");
      return { certificate, key };
    });
  }

  /** By the certificate's id. Owners of the project. Idempotent. */
  async revokeCertificate(caller: Caller, id: string): Promise<CertificateRow> {
    const parsed = parseGlobalId(id);
    const certificateId = parsed?.type === "Certificate" ? parsed.naturalKey : id;
    const row = await this.#eventLog.transact(this.#orm, async (em, append) => {
      const found = await em.findOne(CertificateEntity, { id: certificateId });
      if (!found || !mayOwn(caller, found.project)) {
        throw new AppError("NOT_FOUND", "There is no such certificate.", { details: { path: ["input", "id"] } });
      }
      if (!found.revokedAt) await revoke(em, append, caller.subject, found);
      return found;
    });
    this.#revocations.add(row.id);
    return row;
  }

  /** Consumer: an instance that is gone identifies itself no more. Idempotent. */
  async revokeOfReleasedInstances(em: EntityManager, events: LoggedEvent[], append: Append): Promise<void> {
    for (const instance of events.flatMap((event) => releasedInstance(event) ?? [])) {
      const row = await findActive(em, "instance", instance);
      if (row) await revoke(em, append, "master", row);
    }
  }

  /** Owners see the project's certificates, others their own. */
  async certificates(caller: Caller, page: Page): Promise<CertificateRow[]> {
    const { where, options } = keyset("id", page);
    return this.#orm.em.fork().find(CertificateEntity, { $and: [where, visibleTo(caller)] }, options);
  }

  async certificatesById(caller: Caller, ids: readonly string[]): Promise<(CertificateRow | null)[]> {
    const rows = await this.#orm.em
      .fork()
      .find(CertificateEntity, { $and: [{ id: { $in: [...ids] } }, visibleTo(caller)] });
    return ids.map((id) => rows.find((row) => row.id === id) ?? null);
  }

  async #issue(em: EntityManager, append: Append, caller: Caller, holder: Holder, kind: CertificateClaims["kind"]) {
    const { reference: subject, project } = holder;
    const issued = await this.#authority.issue({ kind, subject, project, lifetimeDays });
    const { id, certificate, key, expiresAt } = issued;
    em.create(CertificateEntity, {
      id,
      kind,
      subject,
      project,
      issuedAt: new Date(),
      expiresAt,
      revokedAt: null,
      sealedPair: kind === "instance" ? this.#authority.seal(JSON.stringify({ certificate, key })) : null,
    });
    await em.flush();
    await append({
      kind: "CertificateIssued",
      subject: id,
      project,
      actor: caller.subject,
      payload: { kind, subject },
    });
    return issued;
  }

  #unseal(sealed: string): KeyPair {
    return JSON.parse(this.#authority.unseal(sealed)) as KeyPair;
  }
}

async function revoke(em: EntityManager, append: Append, actor: string, row: CertificateRow): Promise<void> {
  row.revokedAt = new Date();
  await recordRevocation(em, row.id, row.expiresAt);
  await append({ kind: tokenRevokedKind, subject: row.id, project: row.project, actor });
  await em.flush();
}

/** Two that ask for one holder's certificate take turns. */
async function lockHolder(em: EntityManager, reference: string): Promise<void> {
  await em.execute("select pg_advisory_xact_lock(hashtextextended(?, 1))", [`certificate ${reference}`]);
}

/** The instance whose partition an event has freed. */
export function releasedInstance({ kind, payload }: LoggedEvent): string | null {
  if (kind !== "PartitionStateChanged" || payload.to !== "FREE") return null;
  return typeof payload.instance === "string" ? payload.instance : null;
}

function findActive(em: EntityManager, kind: CertificateRow["kind"], subject: string): Promise<CertificateRow | null> {
  return em.findOne(CertificateEntity, { kind, subject, revokedAt: null, expiresAt: { $gt: new Date() } });
}

function requireOwnerOrNode(caller: Caller, { reference, project }: Holder): void {
  if (mayOwn(caller, project) || (caller.kind === "node" && caller.subject === reference)) return;
  throw new AppError("FORBIDDEN", "A computer's certificate takes the role OWNER in its project.");
}

function visibleTo(caller: Caller) {
  if (caller.kind === "administrator") return {};
  if (mayOwn(caller, caller.project)) return { project: caller.project };
  const kind = caller.kind === "person" ? { id: { $in: [] as string[] } } : { kind: caller.kind };
  return { project: caller.project, subject: caller.subject, ...kind };
}
