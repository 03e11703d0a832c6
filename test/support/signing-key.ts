import "reflect-metadata";
import { createPrivateKey, randomBytes, sign } from "node:crypto";
import { PemConverter, X509CertificateGenerator } from "@peculiar/x509";

export interface SigningKey {
  certificate: string;
  /** PKCS#8 PEM. */
  key: string;
  /** The body of a directory entry as `slapos.libnetworkcache` makes it. */
  entry(metadata: object): string;
}

const rsa = {
  name: "RSASSA-PKCS1-v1_5",
  hash: "SHA-256",
  modulusLength: 1024,
  publicExponent: new Uint8Array([1, 0, 1]),
};
const elliptic = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

/** A builder's key and self-signed certificate, as the real client makes them: RSA of 1024 bits and a hundred years. */
export async function createSigningKey(name: string, kind: "rsa" | "elliptic" = "rsa"): Promise<SigningKey> {
  const algorithm = kind === "rsa" ? rsa : elliptic;
  const keys = (await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"])) as CryptoKeyPair;
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: `01${randomBytes(8).toString("hex")}`,
    name: `CN=${name}`,
    notBefore: new Date(),
    notAfter: new Date(Date.now() + 100 * 365 * 86_400_000),
    signingAlgorithm: algorithm,
    keys,
  });
  const key = PemConverter.encode(await crypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  return {
    certificate: certificate.toString("pem"),
    key,
    entry(metadata) {
      const text = JSON.stringify(metadata);
      return JSON.stringify([text, sign("sha1", Buffer.from(text), createPrivateKey(key)).toString("base64")]);
    },
  };
}
