import { randomUUID } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { exportJWK, generateKeyPair, importJWK, type JWK } from "jose";
import { ConfigError } from "./config.js";
import { makeOnce, replaceFile } from "./data-dir.js";
import { AppError } from "./errors.js";
import type { Logger } from "./log.js";

type Key = Awaited<ReturnType<typeof importJWK>>;

/** One Ed25519 key. What it signed is good until the token's own end, the token's revocation, or `endsAt`. */
export interface SigningKey {
  keyId: string;
  createdAt: Date;
  /** Null while it is the one that signs, or earlier but without an end. */
  endsAt: Date | null;
  privateKey: Promise<Key>;
  publicKey: Promise<Key>;
}

/** Which key signs, and which keys' signatures are still good. */
export interface KeyRing {
  readonly current: SigningKey;
  find(keyId: string | undefined): SigningKey | null;
}

type StoredKey = JWK & { kid: string; createdAt?: string; endsAt?: string };

export const signingKeysFile = (dataDir: string) => `${dataDir}/signing-keys.json`;

const pollIntervalMs = 500;
const maxKeys = 100;

/**
 * The keys of a data dir, newest first. Every process that shares the data dir looks at the file twice a second, and at
 * once when a token names a key that it does not know: another process may have just rotated. The file is replaced whole,
 * so that a crash leaves either the earlier keys or the new ones.
 */
export class SigningKeys implements KeyRing {
  readonly #file: string;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;
  #keys: SigningKey[] = [];
  #stamp = "";

  private constructor(file: string, log: Logger) {
    this.#file = file;
    this.#log = log;
    this.#load();
    this.#timer = setInterval(() => this.#loadIfChanged(), pollIntervalMs).unref();
  }

  static async open(dataDir: string, log: Logger): Promise<SigningKeys> {
    const file = signingKeysFile(dataDir);
    await makeOnce(file, async () => write([await newKey()]));
    return new SigningKeys(file, log);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  get current(): SigningKey {
    const [newest] = this.#keys;
    if (!newest) throw new AppError("INTERNAL", "There is no signing key.");
    return newest;
  }

  find(keyId: string | undefined): SigningKey | null {
    if (keyId === undefined) return null;
    let key = this.#keys.find((one) => one.keyId === keyId);
    if (!key && this.#loadIfChanged()) key = this.#keys.find((one) => one.keyId === keyId);
    return key && (key.endsAt === null || key.endsAt > new Date()) ? key : null;
  }

  /** All that are still good, the one that signs first. */
  list(): SigningKey[] {
    this.#loadIfChanged();
    return this.#keys.filter((key) => this.find(key.keyId) !== null);
  }

  /**
   * Makes a new key sign from now on. What earlier keys signed stays good until `earlierEndAt` at the latest. The caller
   * sees to it that no two processes do this at once.
   */
  async rotate(earlierEndAt: Date): Promise<SigningKey> {
    const stored = this.#read();
    const kept = stored
      .filter((key) => key.endsAt === undefined || new Date(key.endsAt) > new Date())
      .map((key) => {
        const endsAt =
          key.endsAt === undefined ? earlierEndAt : new Date(Math.min(Date.parse(key.endsAt), +earlierEndAt));
        return { ...key, endsAt: endsAt.toISOString() };
      });
    if (kept.length >= maxKeys)
      throw new AppError(
        "STATE_CONFLICT",
        `There are ${kept.length} keys that are still good. Let earlier ones end first.`,
      );
    await replaceFile(this.#file, write([await newKey(), ...kept]));
    this.#load();
    return this.current;
  }

  #loadIfChanged(): boolean {
    try {
      if (stampOf(this.#file) === this.#stamp) return false;
      this.#load();
      return true;
    } catch (error) {
      // What is known stays good: a folder that is away for a moment must not end every session.
      this.#log.warn({ err: error }, "the signing keys cannot be read just now");
      return false;
    }
  }

  #load(): void {
    const stamp = stampOf(this.#file);
    const keys = this.#read().map((stored): SigningKey => {
      const { d: _private, ...publicJwk } = stored;
      return {
        keyId: stored.kid,
        createdAt: new Date(stored.createdAt ?? 0),
        endsAt: stored.endsAt === undefined ? null : new Date(stored.endsAt),
        privateKey: importJWK(stored, "EdDSA"),
        publicKey: importJWK(publicJwk, "EdDSA"),
      };
    });
    this.#keys = keys;
    this.#stamp = stamp;
  }

  #read(): StoredKey[] {
    return readKeys(this.#file);
  }
}

/** The keys of a file. Throws a ConfigError where there is none that signs. */
export function readKeys(file: string): StoredKey[] {
  try {
    const { keys } = JSON.parse(readFileSync(file, "utf8")) as { keys: StoredKey[] };
    if (!keys.some(({ kid, d }) => typeof kid === "string" && typeof d === "string")) throw new Error("it has no key");
    return keys;
  } catch (error) {
    throw new ConfigError(`${file} is not a JSON Web Key set: ${(error as Error).message}`);
  }
}

async function newKey(): Promise<StoredKey> {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true });
  return { ...(await exportJWK(privateKey)), kid: randomUUID(), alg: "EdDSA", createdAt: new Date().toISOString() };
}

const write = (keys: StoredKey[]) => `${JSON.stringify({ keys }, null, 2)}\n`;

function stampOf(file: string): string {
  const { mtimeMs, ino, size } = statSync(file);
  return `${mtimeMs} ${ino} ${size}`;
}
