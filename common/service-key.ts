import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { makeOnce } from "./data-dir.js";

/** How long a mark is good: as long as a call may be on its way, and the clocks of two machines apart. */
const lifetimeMs = 5 * 60_000;
/** Calls of so long carry the same mark: making one costs as much as sending the call. */
const sameForMs = 5_000;

/**
 * By what the services of one data dir know one another: the gateway marks its calls, and subgraphs that run apart answer
 * no others, whatever token these carry.
 */
export class ServiceKey {
  readonly #secret: Buffer;
  #last = { madeAt: Number.NEGATIVE_INFINITY, mark: "" };

  private constructor(secret: Buffer) {
    this.#secret = secret;
  }

  static async open(dataDir: string): Promise<ServiceKey> {
    const text = await makeOnce(`${dataDir}/service-secret`, async () => `${randomBytes(32).toString("base64url")}\n`);
    return new ServiceKey(Buffer.from(text.trim(), "base64url"));
  }

  /** A mark for calls of now. */
  sign(now = Date.now()): string {
    const age = now - this.#last.madeAt;
    if (age >= 0 && age < sameForMs) return this.#last.mark;
    const endsAt = now + lifetimeMs;
    this.#last = { madeAt: now, mark: `${endsAt}.${this.#digest(endsAt).toString("base64url")}` };
    return this.#last.mark;
  }

  isGood(mark: unknown, now = Date.now()): boolean {
    const [, endsAt, digest] = typeof mark === "string" ? (/^(\d{1,16})\.([\w-]{43})$/.exec(mark) ?? []) : [];
    if (endsAt === undefined || digest === undefined) return false;
    const isTimely = Number(endsAt) > now && Number(endsAt) <= now + 2 * lifetimeMs;
    return isTimely && timingSafeEqual(Buffer.from(digest, "base64url"), this.#digest(Number(endsAt)));
  }

  #digest(endsAt: number): Buffer {
    return createHmac("sha256", this.#secret).update(`gateway ${endsAt}`).digest();
  }
}

export const serviceHeader = "x-slapgraph-service";
