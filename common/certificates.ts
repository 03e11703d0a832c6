import "reflect-metadata";
import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  hkdfSync,
  X509Certificate as NodeCertificate,
  randomBytes,
} from "node:crypto";
import { isIP } from "node:net";
import { AppError } from "./errors.js";
import type { Caller } from "./identity.js";

/** Much code, and needed where a certificate is made: a start has not to wait for it. */
const loadX509 = () => import("@peculiar/x509");

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const authorityLifetimeMs = 20 * 365 * 86_400_000;
const serverLifetimeMs = 397 * 86_400_000;
/** Clocks of nodes may be behind ours. */
const backdatedMs = 3_600_000;

export interface CertificateClaims {
  kind: "node" | "instance";
  subject: string;
  project: string;
  lifetimeDays: number;
}

export interface IssuedCertificate {
  /** A text header with the subject, which `slapos node register` reads the reference out of, and the PEM. */
  certificate: string;
  /** PKCS#8 PEM. */
  key: string;
  /** The certificate's id for revocation: `certificate:` and its serial number. */
  id: string;
  expiresAt: Date;
}

/** The PEM of a new authority, its key before its certificate: what the data dir keeps in one file. */
export async function createAuthority(): Promise<string> {
  const x509 = await loadX509();
  const keys = await newKeys();
  const now = Date.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: "CN=Slapgraph",
    notBefore: new Date(now - backdatedMs),
    notAfter: new Date(now + authorityLifetimeMs),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  return `${await keyPem(keys.privateKey)}\n${certificate.toString("pem")}\n`;
}

/** Our own small authority: it signs what nodes and instances identify themselves with over TLS, and the listeners' own. */
export class CertificateAuthority {
  /** What the listeners trust, and clients may. */
  readonly pem: string;
  readonly #authority: NodeCertificate;
  readonly #key: CryptoKey;
  readonly #sealingKey: Buffer;

  private constructor(authority: NodeCertificate, key: CryptoKey, sealingKey: Buffer) {
    this.#authority = authority;
    this.pem = authority.toString();
    this.#key = key;
    this.#sealingKey = sealingKey;
  }

  /** Throws what node:crypto does when the text is not what `createAuthority` made. */
  static async open(pem: string): Promise<CertificateAuthority> {
    const pkcs8 = createPrivateKey(pem).export({ type: "pkcs8", format: "der" });
    const key = await crypto.subtle.importKey("pkcs8", new Uint8Array(pkcs8), algorithm, false, ["sign"]);
    const sealingKey = Buffer.from(hkdfSync("sha256", pkcs8, "", "slapgraph instance keys", 32));
    return new CertificateAuthority(new NodeCertificate(pem.slice(pem.indexOf(certificateMarker))), key, sealingKey);
  }

  async issue({ kind, subject, project, lifetimeDays }: CertificateClaims): Promise<IssuedCertificate> {
    const x509 = await loadX509();
    const keys = await newKeys();
    const serialNumber = newSerial();
    const expiresAt = new Date(Date.now() + lifetimeDays * 86_400_000);
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber,
      subject: `CN=${subject}, OU=${kind}, O=${project}`,
      issuer: new x509.X509Certificate(this.pem).subject,
      notBefore: new Date(Date.now() - backdatedMs),
      notAfter: expiresAt,
      signingAlgorithm: algorithm,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.clientAuth]),
        new x509.SubjectAlternativeNameExtension([
          { type: "url", value: `${namePrefix}${kind}:${project}:${subject}` },
        ]),
      ],
    });
    return {
      certificate: `Subject: O=${project}, OU=${kind}, CN=${subject}/emailAddress=${subject}@slapgraph\n${certificate.toString("pem")}\n`,
      key: await keyPem(keys.privateKey),
      id: certificateId(serialNumber),
      expiresAt,
    };
  }

  /** A certificate for our own listeners, good for these names and addresses. */
  async issueForServer(hosts: readonly string[]): Promise<{ cert: string; key: string }> {
    const x509 = await loadX509();
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: newSerial(),
      subject: "CN=Slapgraph server",
      issuer: new x509.X509Certificate(this.pem).subject,
      notBefore: new Date(Date.now() - backdatedMs),
      notAfter: new Date(Date.now() + serverLifetimeMs),
      signingAlgorithm: algorithm,
      publicKey: keys.publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension(
          [...new Set(hosts)].map((value) => ({ type: isIP(value) === 0 ? ("dns" as const) : ("ip" as const), value })),
        ),
      ],
    });
    return { cert: `${certificate.toString("pem")}\n${this.pem}`, key: await keyPem(keys.privateKey) };
  }

  /** Whom a client certificate stands for. UNAUTHENTICATED unless this authority signed it for a client and it has not expired. */
  callerOf(certificate: NodeCertificate): Caller {
    const [, kind, project, subject] =
      /^URI:urn:slapgraph:(node|instance):([^:,]+):([^:,]+)$/.exec(certificate.subjectAltName ?? "") ?? [];
    const expiresAt = Date.parse(certificate.validTo);
    const isOurs = certificate.verify(this.#authority.publicKey) && certificate.checkIssued(this.#authority);
    if (!isOurs || !project || !subject || (kind !== "node" && kind !== "instance")) {
      throw new AppError("UNAUTHENTICATED", "The client certificate is not one of this master's.");
    }
    return { kind, project, subject, tokenId: certificateId(certificate.serialNumber), expiresAt };
  }

  /** Encrypts a private key that has to be handed out again, so that the database alone gives nobody's key away. */
  seal(text: string): string {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", this.#sealingKey, nonce);
    const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString("base64");
  }

  unseal(sealed: string): string {
    const bytes = Buffer.from(sealed, "base64");
    const decipher = createDecipheriv("aes-256-gcm", this.#sealingKey, bytes.subarray(0, 12));
    decipher.setAuthTag(bytes.subarray(12, 28));
    return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString("utf8");
  }
}

const namePrefix = "urn:slapgraph:";
const certificateMarker = "-----BEGIN CERTIFICATE-----";

function certificateId(serialNumber: string): string {
  return `certificate:${serialNumber.toLowerCase()}`;
}

function newKeys(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]) as Promise<CryptoKeyPair>;
}

/** Positive, and without leading zeros, so that every reader writes it the same way. */
function newSerial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString("hex");
}

async function keyPem(key: CryptoKey): Promise<string> {
  const { PemConverter } = await loadX509();
  return PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}
