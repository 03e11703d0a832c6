import { constants, type KeyObject, verify } from "node:crypto";

/**
 * Whether a key signed a text, as `slapos.libnetworkcache` signs: RSA PKCS#1 v1.5 over SHA-1 of the text's UTF-8, in base64,
 * which older clients broke into lines (shacache-protocol.md §1.3).
 */
export function isSignedBy(key: KeyObject, metadata: string, signature: string): boolean {
  if (key.asymmetricKeyType !== "rsa" || signature.trim() === "") return false;
  try {
    const how = { key, padding: constants.RSA_PKCS1_PADDING };
    return verify("sha1", Buffer.from(metadata, "utf8"), how, Buffer.from(signature, "base64"));
  } catch {
    // A signature of another key's length, or what is none at all.
    return false;
  }
}
