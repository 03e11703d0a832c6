import { createHash, randomBytes, randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, realpathSync } from "node:fs";
import { link, open, rename, unlink } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { CertificateAuthority, createAuthority } from "./certificates.js";
import { adminTokenForm, ConfigError } from "./config.js";

/** What may be lost without loss: code of ours as Node.js compiled it. */
export const compiledFolder = "compiled";

/** The folder that a single machine's state lives in. Others may pass through it (PostgreSQL runs as its own user), not list it. */
export function openDataDir(dataDir: string): void {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o711 });
    chmodSync(dataDir, 0o711);
  } catch (error) {
    throw new ConfigError(`SLAPGRAPH_DATA_DIR ${dataDir} cannot be used: ${(error as Error).message}`);
  }
}

/**
 * One process per data dir. The lock is a listening socket, which the kernel takes back when the process dies, however
 * it dies, so that there is never a stale lock to judge.
 */
export async function lockDataDir(dataDir: string): Promise<{ release: () => Promise<void> }> {
  const name = `slapgraph-${createHash("sha256").update(realpathSync(dataDir)).digest("hex").slice(0, 32)}`;
  const address = process.platform === "linux" ? `\0${name}` : path.join(os.tmpdir(), `${name}.sock`);
  const server = net.createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) =>
      reject(
        error.code === "EADDRINUSE"
          ? new ConfigError(
              `Slapgraph already runs on the data dir ${dataDir}. Stop that one, or set SLAPGRAPH_DATA_DIR to another folder.`,
            )
          : error,
      ),
    );
    server.listen(address, resolve);
  });
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
}

/**
 * Makes a secret file once: two processes that start together agree on one content, and a crash leaves either the whole
 * file or none, because a file appears under its name only after its bytes are durable.
 */
export async function makeOnce(file: string, content: () => Promise<string>): Promise<string> {
  const existing = readIfPresent(file);
  if (existing !== null) return existing;
  const temporary = await writeTemporary(file, await content());
  try {
    await link(temporary, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    await unlink(temporary);
  }
  return readFileSync(file, "utf8");
}

/** Puts a secret file in the place of another, whole: a crash leaves the one or the other. */
export async function replaceFile(file: string, content: string): Promise<void> {
  await rename(await writeTemporary(file, content), file);
  const folder = await open(path.dirname(file));
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function writeTemporary(file: string, content: string): Promise<string> {
  const temporary = `${file}.${randomUUID()}`;
  const handle = await open(temporary, "wx", 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  return temporary;
}

function readIfPresent(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new ConfigError(`${file} cannot be read: ${(error as Error).message}`);
  }
}

export const adminTokenFile = (dataDir: string) => path.join(dataDir, "admin-token");

/** The bootstrap administrator's token: the variable's, else the one that the first start made and kept. */
export async function readAdminToken(dataDir: string, given: string | undefined): Promise<string> {
  if (given !== undefined) return given;
  const file = adminTokenFile(dataDir);
  const token = (await makeOnce(file, async () => `sg_${randomBytes(32).toString("base64url")}\n`)).trim();
  checkAdminToken(file, token);
  return token;
}

/** A file that somebody emptied would let in whoever sends an empty password. */
export function checkAdminToken(file: string, text: string): void {
  if (!adminTokenForm.pattern.test(text.trim()))
    throw new ConfigError(
      `${file} holds no token: ${adminTokenForm.accepts}. Remove it, and the next start makes a new one.`,
    );
}

export const authorityFile = (dataDir: string) => path.join(dataDir, "certificate-authority.pem");

/** The authority that signs client certificates for the TLS listeners. */
export async function readCertificateAuthority(dataDir: string): Promise<CertificateAuthority> {
  const file = authorityFile(dataDir);
  return openAuthority(file, await makeOnce(file, createAuthority));
}

export async function openAuthority(file: string, pem: string): Promise<CertificateAuthority> {
  try {
    return await CertificateAuthority.open(pem);
  } catch (error) {
    throw new ConfigError(`${file} holds no key and certificate: ${(error as Error).message}`);
  }
}

/** The embedded PostgreSQL's password, which never leaves the machine. */
export async function readDatabasePassword(dataDir: string): Promise<string> {
  return (
    await makeOnce(path.join(dataDir, "postgres-password"), async () => randomBytes(24).toString("base64url"))
  ).trim();
}
