import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import { type Caller, mainProject } from "../../../common/identity.js";
import type { SigningKey, SigningKeys } from "../../../common/signing-keys.js";

const maxDays = 3650;

export class SigningKeyService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;
  readonly #keys: SigningKeys;

  constructor(orm: MikroORM, eventLog: EventLog, keys: SigningKeys) {
    this.#orm = orm;
    this.#eventLog = eventLog;
    this.#keys = keys;
  }

  /** The keys whose signatures are good, for the administrator; none for others. */
  signingKeys(caller: Caller): SigningKey[] {
    return caller.kind === "administrator" ? this.#keys.list() : [];
  }

  /**
   * A new key signs from now on; what earlier ones signed ends after so many days at the latest, with 0 at once. The file
   * is in place before the transaction commits: a crash between the two leaves a good new key and no word of it.
   */
  async rotateSigningKey(caller: Caller, keepEarlierDays: number): Promise<SigningKey> {
    if (caller.kind !== "administrator")
      throw new AppError("FORBIDDEN", "Only the administrator rotates the signing key.");
    if (keepEarlierDays < 0 || keepEarlierDays > maxDays) {
      throw new AppError("BAD_USER_INPUT", `Earlier keys are kept 0 to ${maxDays} days.`, {
        details: { path: ["input", "keepEarlierDays"] },
      });
    }
    return this.#eventLog.transact(this.#orm, async (em, append) => {
      await em.execute("select pg_advisory_xact_lock(hashtext('slapgraph signing keys'))");
      const key = await this.#keys.rotate(new Date(Date.now() + keepEarlierDays * 86_400_000));
      await append({
        kind: "SigningKeyRotated",
        subject: key.keyId,
        project: mainProject,
        actor: caller.subject,
        payload: { keepEarlierDays },
      });
      return key;
    });
  }
}
