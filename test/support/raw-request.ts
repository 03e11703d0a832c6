import { request as httpRequest, type IncomingHttpHeaders } from "node:http";

export interface RawAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** The transfer broke off before its announced end. */
  isBroken: boolean;
}

/** A request on a connection of its own whose target goes over the wire as it is written, as the real cache client's does. */
export function rawRequest(
  url: string,
  method: string,
  target: string,
  body?: Buffer,
  headers: Record<string, string> = {},
): Promise<RawAnswer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const sent = httpRequest({
      hostname,
      port,
      method,
      path: target,
      agent: false,
      headers: { ...(body ? { "content-length": String(body.length) } : {}), ...headers },
    });
    sent.on("error", reject);
    sent.on("response", (response) => {
      const chunks: Buffer[] = [];
      const finish = (isBroken: boolean) =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks), isBroken });
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => finish(false));
      response.on("error", () => finish(true));
    });
    sent.end(body);
  });
}
