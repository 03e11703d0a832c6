import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import { errors as joseErrors, jwtVerify, SignJWT } from "jose";
import { AppError } from "./errors.js";
import type { KeyRing } from "./signing-keys.js";

export const roles = ["OWNER", "USER", "VIEWER"] as const;
export type Role = (typeof roles)[number];

/** What a token proves of whoever holds it. `tokenId` is its `jti`, `keyId` the key that signed it, if it is not a certificate. */
interface Proved {
  subject: string;
  project: string;
  tokenId: string;
  expiresAt: number;
  keyId?: string;
}

/** Who calls, as proved by a token; the bootstrap administrator's has no id. */
export type Caller =
  | { kind: "administrator"; subject: string; tokenId?: string; expiresAt?: number; keyId?: string }
  | ({ kind: "person"; role: Role } & Proved)
  | ({ kind: "node" } & Proved)
  | ({ kind: "instance" } & Proved);

/** The project that exists from the start, so that a single-machine user never meets the word. */
export const mainProject = "main";

/** Owners may change what belongs to the project; the administrator owns every project. */
export function mayOwn(caller: Caller, project: string): boolean {
  return (
    caller.kind === "administrator" ||
    (caller.kind === "person" && caller.project === project && caller.role === "OWNER")
  );
}

/** Owners and viewers read all of a project; users only what is theirs. */
export function mayReadAll(caller: Caller, project: string): boolean {
  return (
    mayOwn(caller, project) || (caller.kind === "person" && caller.project === project && caller.role === "VIEWER")
  );
}

/** Any person of the project: owners, users and viewers see what can be requested. */
export function isMember(caller: Caller, project: string): boolean {
  return caller.kind === "administrator" || (caller.kind === "person" && caller.project === project);
}

/** The project that a caller's command is for: the administrator names one or means `main`. */
export function projectOf(caller: Caller, named?: string | null): string {
  if (caller.kind === "administrator") return named ?? mainProject;
  if (named && named !== caller.project) throw new AppError("NOT_FOUND", `There is no project ${named}.`);
  return caller.project;
}

/** Throws where the caller may not own the project: NOT_FOUND to strangers, FORBIDDEN to whoever belongs to it without the role. */
export function requireOwner(caller: Caller, project: string, what: string): void {
  if (mayOwn(caller, project)) return;
  if (caller.kind === "administrator" || caller.project === project)
    throw new AppError("FORBIDDEN", `${what} takes the role OWNER in the project ${project}.`);
  throw new AppError("NOT_FOUND", `There is no project ${project}.`);
}

export interface TokenClaims {
  kind: "person" | "node" | "instance";
  subject: string;
  project: string;
  role?: Role;
  lifetimeSeconds: number;
}

export interface IssuedToken {
  token: string;
  tokenId: string;
  expiresAt: Date;
}

const issuer = "slapgraph";
const maxVerified = 20_000;

/** Signs and verifies tokens with a ring of keys. Verification reads no database: revocation is a set in memory. */
export class TokenAuthority {
  readonly #keys: KeyRing;
  readonly #adminDigest: Buffer;
  readonly #isRevoked: (tokenId: string) => boolean;
  /** Tokens whose signature was checked here: a node shows its own with every call, and checking costs more than a poll. */
  readonly #verified = new Map<string, Caller>();

  constructor(keys: KeyRing, adminToken: string, isRevoked: (tokenId: string) => boolean) {
    this.#keys = keys;
    this.#adminDigest = digest(adminToken);
    this.#isRevoked = isRevoked;
  }

  async issue(claims: TokenClaims): Promise<IssuedToken> {
    const signing = this.#keys.current;
    const tokenId = randomUUID();
    const expiresAt = new Date(Math.floor(Date.now() / 1000 + claims.lifetimeSeconds) * 1000);
    const token = await new SignJWT({
      kind: claims.kind,
      project: claims.project,
      ...(claims.role ? { role: claims.role } : {}),
    })
      .setProtectedHeader({ alg: "EdDSA", kid: signing.keyId })
      .setIssuer(issuer)
      .setSubject(claims.subject)
      .setJti(tokenId)
      .setIssuedAt()
      .setExpirationTime(expiresAt)
      .sign(await signing.privateKey);
    return { token, tokenId, expiresAt };
  }

  /** The caller that a token proves. UNAUTHENTICATED says what is wrong with it, never why another one would do. */
  async verify(token: string): Promise<Caller> {
    const known = this.#verified.get(token);
    if (known) {
      // What a signature proved once it proves always; the rest is looked at each time.
      this.assertStillValid(known);
      return known;
    }
    if (timingSafeEqual(digest(token), this.#adminDigest)) return { kind: "administrator", subject: "administrator" };
    const caller = await this.#verifySignature(token);
    if (this.#verified.size >= maxVerified) this.#verified.clear();
    this.#verified.set(token, caller);
    return caller;
  }

  async #verifySignature(token: string): Promise<Caller> {
    try {
      const { payload, protectedHeader } = await jwtVerify(
        token,
        (header) => {
          const key = this.#keys.find(header.kid);
          if (!key) throw new joseErrors.JWKSNoMatchingKey();
          return key.publicKey as Promise<CryptoKey>;
        },
        { issuer, algorithms: ["EdDSA"], requiredClaims: ["sub", "jti", "exp"] },
      );
      const { sub: subject, jti: tokenId, exp, kind, project, role } = payload as Record<string, unknown>;
      if (
        typeof subject !== "string" ||
        typeof tokenId !== "string" ||
        typeof exp !== "number" ||
        typeof project !== "string"
      ) {
        throw new AppError("UNAUTHENTICATED", "The token is not one of this master's.");
      }
      if (this.#isRevoked(tokenId)) throw new AppError("UNAUTHENTICATED", "The token was revoked.");
      const proved = { subject, project, tokenId, expiresAt: exp * 1000, keyId: protectedHeader.kid ?? "" };
      if (kind === "node" || kind === "instance") return { kind, ...proved };
      if (kind === "person" && roles.includes(role as Role)) return { kind, role: role as Role, ...proved };
    } catch (error) {
      if (error instanceof AppError) throw error;
      if (error instanceof joseErrors.JWTExpired) throw new AppError("UNAUTHENTICATED", "The token has expired.");
      if (error instanceof joseErrors.JOSEError || error instanceof TypeError) {
        throw new AppError("UNAUTHENTICATED", "The token is not one of this master's.", { cause: error });
      }
      throw error;
    }
    throw new AppError("UNAUTHENTICATED", "The token is not one of this master's.");
  }

  /** Throws once a token that was good at the start of a long answer is so no more: it expired or was revoked, or its key ended. */
  assertStillValid(caller: Caller): void {
    if (caller.expiresAt !== undefined && caller.expiresAt <= Date.now()) {
      throw new AppError("UNAUTHENTICATED", "The token has expired.");
    }
    if (caller.tokenId !== undefined && this.#isRevoked(caller.tokenId)) {
      throw new AppError("UNAUTHENTICATED", "The token was revoked.");
    }
    if (caller.keyId !== undefined && this.#keys.find(caller.keyId) === null) {
      throw new AppError("UNAUTHENTICATED", "The key that signed the token has ended.");
    }
  }

  /** The caller of an `Authorization` header: Bearer, or Basic whose password is the token. Absent or other: UNAUTHENTICATED. */
  async verifyAuthorization(header: string | null | undefined): Promise<Caller> {
    const token = tokenOfAuthorization(header);
    if (token === null)
      throw new AppError("UNAUTHENTICATED", "No token came with the call. Send `Authorization: Bearer <token>`.");
    return this.verify(token);
  }
}

const maxTokenLength = 4096;

/** The token in an `Authorization` header: Bearer, or the password of Basic. Null for any other. */
export function tokenOfAuthorization(header: string | null | undefined): string | null {
  if (!header || header.length > maxTokenLength * 2) return null;
  const [, scheme, value] = /^(\S+)\s+(\S+)$/.exec(header.trim()) ?? [];
  if (!scheme || !value) return null;
  if (scheme.toLowerCase() === "bearer") return value;
  if (scheme.toLowerCase() !== "basic") return null;
  const text = Buffer.from(value, "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon === -1 ? null : text.slice(colon + 1);
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
