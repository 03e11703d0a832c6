import { createHash } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";

export type Answer = (request: http.IncomingMessage, response: http.ServerResponse, bytes: Buffer | undefined) => void;

export interface UpstreamCache {
  url: string;
  /** What it was asked, in order: `GET <key> <range>`. */
  asked: string[];
  /** Bytes that left it so far, by its own count. */
  sentBytes: number;
  /** How it answers from now on. */
  answer: Answer;
  close(): Promise<void>;
}

export const sha512Of = (bytes: Buffer) => createHash("sha512").update(bytes).digest("hex");

/** As a good cache does, ranges included. */
export const honest: Answer = (request, response, bytes) => {
  if (!bytes) return void response.writeHead(404, { "content-length": 0 }).end();
  const [, from] = /^bytes=(\d+)-$/.exec(request.headers.range ?? "") ?? [];
  const start = Number(from ?? 0);
  const head = { "content-length": bytes.length - start, "accept-ranges": "bytes" };
  if (from === undefined) response.writeHead(200, head);
  else response.writeHead(206, { ...head, "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}` });
  if (request.method === "HEAD") response.end();
  else response.end(bytes.subarray(start));
};

/** A cache elsewhere, which behaves or misbehaves as it is told; over real HTTP. */
export async function startUpstream(blobs: Buffer[] = [], answer: Answer = honest): Promise<UpstreamCache> {
  const byDigest = new Map(blobs.map((bytes) => [sha512Of(bytes), bytes]));
  const server = http.createServer((request, response) => {
    const key = (request.url ?? "").slice("/base/".length);
    upstream.asked.push(`${request.method} ${key.slice(0, 128)} ${request.headers.range ?? ""}`.trim());
    const { socket } = request;
    const before = socket.bytesWritten;
    response.once("close", () => {
      upstream.sentBytes += socket.bytesWritten - before;
    });
    upstream.answer(request, response, byDigest.get(key));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const upstream: UpstreamCache = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/base`,
    asked: [],
    sentBytes: 0,
    answer,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return upstream;
}
