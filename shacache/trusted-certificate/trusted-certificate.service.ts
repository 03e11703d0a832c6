import { type KeyObject, X509Certificate } from "node:crypto";
import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../common/errors.js";
import type { EventLog } from "../../common/event-log.js";
import { type Caller, isMember, mayOwn, projectOf, requireOwner } from "../../common/identity.js";
import { keyset, type Page } from "../../common/pagination.js";
import { Fresh } from "../fresh.js";
import { isSignedBy } from "./signature.js";
import { TrustedCertificateEntity } from "./trusted-certificate.entity.js";

export type TrustedCertificateRow = InferEntity<typeof TrustedCertificateEntity>;

interface Trusted {
  row: TrustedCertificateRow;
  key: KeyObject;
}

/** Each one that is tried costs a verification for each entry. */
const maxPerProject = 50;
const maxPemLength = 32 * 1024;

export class TrustedCertificateService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #fresh = new Fresh<Trusted[]>((project) => this.#read(project));

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Owners only. Idempotent: the same certificate again has its new title. */
  async trust(
    caller: Caller,
    input: { certificate: string; title?: string | null | undefined; project?: string | null | undefined },
  ): Promise<TrustedCertificateRow> {
    const project = projectOf(caller, input.project);
    requireOwner(caller, project, "Trusting a certificate");
    const certificate = parse(input.certificate);
    const title = input.title ?? certificate.subject.replaceAll("\n", ", ").slice(0, 200);
    if (title.length > 200) throw badInput("A title has up to 200 characters.", "title");
    const fingerprint = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
    const id = `${project} ${fingerprint}`;
    const row = await this.#eventLog.transact(this.#orm, async (em, append) => {
      const present = await em.findOne(TrustedCertificateEntity, { id });
      if (
        present?.distrustedAt !== null &&
        (await em.count(TrustedCertificateEntity, { project, distrustedAt: null })) >= maxPerProject
      )
        throw new AppError("STATE_CONFLICT", `A project trusts up to ${maxPerProject} certificates.`);
      const pem = certificate.toString();
      const values = { id, project, pem, title, createdAt: new Date(), createdBy: caller.subject };
      const kept = present ?? em.create(TrustedCertificateEntity, { ...values, distrustedAt: null });
      const isTrustedAlready = present !== null && present.distrustedAt == null;
      em.assign(kept, isTrustedAlready ? { title } : { ...values, distrustedAt: null });
      await em.flush();
      if (!isTrustedAlready)
        await append({
          kind: "CertificateTrusted",
          subject: fingerprint,
          project,
          actor: caller.subject,
          payload: { title },
        });
      return kept;
    });
    this.#fresh.forget(project);
    return row;
  }

  /** Owners only. Entries that it signed are untrusted from now on. Idempotent; NOT_FOUND where it was never trusted. */
  async distrust(caller: Caller, id: string): Promise<TrustedCertificateRow> {
    const row = await this.#eventLog.transact(this.#orm, async (em, append) => {
      const present = await em.findOne(TrustedCertificateEntity, { id });
      if (!present || !isMember(caller, present.project))
        throw new AppError("NOT_FOUND", "There is no such trusted certificate.", {
          details: { path: ["input", "id"] },
        });
      if (!mayOwn(caller, present.project))
        throw new AppError("FORBIDDEN", "Distrusting a certificate takes the role OWNER in its project.");
      if (present.distrustedAt != null) return present;
      present.distrustedAt = new Date();
      await em.flush();
      const { project } = present;
      await append({ kind: "CertificateDistrusted", subject: id.slice(-64), project, actor: caller.subject });
      return present;
    });
    this.#fresh.forget(row.project);
    return row;
  }

  async trustedCertificates(caller: Caller, page: Page): Promise<TrustedCertificateRow[]> {
    if (caller.kind === "node" || caller.kind === "instance") return [];
    const { where, options } = keyset("id", page);
    const visible = caller.kind === "administrator" ? {} : { project: caller.project };
    return this.#orm.em
      .fork()
      .find(TrustedCertificateEntity, { $and: [where, visible, { distrustedAt: null }] }, options);
  }

  async trustedCertificatesById(caller: Caller, ids: readonly string[]): Promise<(TrustedCertificateRow | null)[]> {
    const rows = await this.#orm.em.fork().find(TrustedCertificateEntity, { id: { $in: [...ids] } });
    const visible = new Map(rows.filter((row) => isMember(caller, row.project)).map((row) => [row.id, row]));
    return ids.map((id) => visible.get(id) ?? null);
  }

  /** Whether the project trusts any certificate, and which of them signed the text. At most a second old. */
  async signerOf(
    project: string,
    metadata: string,
    signature: string,
  ): Promise<{ isChecked: boolean; signer: TrustedCertificateRow | null }> {
    const trusted = await this.#fresh.get(project);
    const found = trusted.find(({ key }) => isSignedBy(key, metadata, signature));
    return { isChecked: trusted.length > 0, signer: found?.row ?? null };
  }

  async #read(project: string): Promise<Trusted[]> {
    const rows = await this.#orm.em
      .fork()
      .find(TrustedCertificateEntity, { project, distrustedAt: null }, { limit: maxPerProject });
    return rows.map((row) => ({ row, key: new X509Certificate(row.pem).publicKey }));
  }
}

function parse(text: string): X509Certificate {
  if (text.length > maxPemLength) throw badInput(`A certificate has up to ${maxPemLength} characters.`, "certificate");
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(text);
  } catch {
    throw badInput("This is not a certificate in PEM.", "certificate");
  }
  if (certificate.publicKey.asymmetricKeyType !== "rsa")
    throw badInput("Entries are signed with RSA keys; this certificate has another kind.", "certificate");
  return certificate;
}

function badInput(message: string, field: string): AppError {
  return new AppError("BAD_USER_INPUT", message, { details: { path: ["input", field] } });
}
