import type { CertificateAuthority } from "./certificates.js";
import { type Door, type DoorOptions, openDoor } from "./http-door.js";

export interface TlsListener {
  /** No such listener where it is null. */
  port: number | null;
  portVariable: string;
  certificates: CertificateAuthority;
  /** Under which names, besides the host, clients reach it. */
  names: readonly string[];
}

export interface DoubleDoor extends Door {
  /** The TLS listener's address, if it is open. */
  tlsUrl: string | null;
}

/** A door over plain HTTP and, where it has a port, one over TLS beside it that asks for client certificates of our authority. */
export async function openDoubleDoor(options: DoorOptions, tls: TlsListener): Promise<DoubleDoor> {
  const door = await openDoor(options);
  if (tls.port === null) return { ...door, tlsUrl: null };
  try {
    const names = ["localhost", "127.0.0.1", options.host, ...tls.names];
    const tlsDoor = await openDoor({
      ...options,
      name: `${options.name} TLS`,
      port: tls.port,
      portVariable: tls.portVariable,
      tls: { ...(await tls.certificates.issueForServer(names)), ca: tls.certificates.pem },
    });
    const close = async () => void (await Promise.all([door.close(), tlsDoor.close()]));
    return { ...door, tlsUrl: tlsDoor.url, close };
  } catch (error) {
    await door.close();
    throw error;
  }
}
