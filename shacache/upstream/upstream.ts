import http from "node:http";
import https from "node:https";
import type { Readable } from "node:stream";

/** The upstream does not do its work just now, which says nothing about what it has. */
export class UpstreamError extends Error {
  override readonly name = "UpstreamError";
}

export interface UpstreamAnswer {
  body: Readable;
  /** Where in the blob the body starts. */
  from: number;
  /** Of the whole blob; null where the upstream does not say. */
  sizeBytes: number | null;
}

/** One that is silent is left alone for so long, so that not every miss waits for it. One that fails at once costs no wait. */
const restMs = 15_000;
const maxSockets = 64;
const maxRefusalBytes = 64 * 1024;
/** What servers say that do not know HEAD. */
const withoutHead = new Set([400, 405, 501]);

/** A cache that ours asks for what it does not have: the blob half or the directory half of one, at its base URL. */
export class Upstream {
  readonly url: string;
  readonly #base: URL;
  readonly #agent: http.Agent;
  readonly #waitMs: number;
  #restsUntil = 0;

  /** `waitMs`: how long it may take to begin an answer, and for the next bytes of one. */
  constructor(url: string, waitMs: number) {
    this.url = url;
    this.#base = new URL(url);
    this.#waitMs = waitMs;
    const options = { keepAlive: true, maxSockets };
    this.#agent = this.#base.protocol === "https:" ? new https.Agent(options) : new http.Agent(options);
  }

  get isResting(): boolean {
    return Date.now() < this.#restsUntil;
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Null when it does not have the key. Whoever gets an answer reads its body to the end or destroys it. */
  async get(key: string, via: string, signal: AbortSignal, from = 0): Promise<UpstreamAnswer | null> {
    const range = from > 0 ? { range: `bytes=${from}-` } : {};
    const response = await this.#ask("GET", key, { via, ...range }, signal);
    const answer = toAnswer(response, from);
    // A short refusal is read, which keeps the connection.
    if (answer === null)
      (lengthOf(response) ?? maxRefusalBytes) < maxRefusalBytes ? response.resume() : response.destroy();
    return answer;
  }

  /** Null when it does not have the key; else its size where the upstream says it. */
  async head(key: string, via: string, signal: AbortSignal): Promise<{ sizeBytes: number | null } | null> {
    const response = await this.#ask("HEAD", key, { via }, signal);
    response.resume();
    if (response.statusCode === 200) return { sizeBytes: lengthOf(response) };
    if (!withoutHead.has(response.statusCode ?? 0)) return null;
    const answer = await this.get(key, via, signal);
    answer?.body.destroy();
    return answer;
  }

  #ask(
    method: string,
    key: string,
    headers: http.OutgoingHttpHeaders,
    signal: AbortSignal,
  ): Promise<http.IncomingMessage> {
    const { protocol, hostname, port, pathname, username, password } = this.#base;
    return new Promise((resolve, reject) => {
      const request = (protocol === "https:" ? https : http).request({
        agent: this.#agent,
        protocol,
        hostname: hostname.replace(/^\[|\]$/g, ""),
        port,
        method,
        // As it came: a URL parser would change keys (shacache-protocol.md §1.1).
        path: `${pathname.replace(/\/+$/, "")}/${key}`,
        headers: { "accept-encoding": "identity", ...headers },
        ...(username ? { auth: `${decodeURIComponent(username)}:${decodeURIComponent(password)}` } : {}),
        signal,
      });
      const fail = (why: string) => {
        request.destroy();
        reject(new UpstreamError(`${this.#base.origin} ${why}`));
      };
      // Not the socket's idle time: an upstream that trickles its head byte by byte is as slow as one that is silent.
      const timer = setTimeout(() => {
        this.#restsUntil = Date.now() + restMs;
        fail(`did not answer within ${this.#waitMs} ms`);
      }, this.#waitMs);
      request.on("response", (response) => {
        clearTimeout(timer);
        const status = response.statusCode ?? 0;
        if ((status >= 500 && status !== 501) || status === 429) return fail(`answered ${status}`);
        this.#restsUntil = 0;
        response.on("error", () => undefined);
        response.setTimeout(this.#waitMs * 3, () => response.destroy(new UpstreamError(`${this.#base.origin} stalls`)));
        resolve(response);
      });
      request.on("error", (error) => {
        clearTimeout(timer);
        if (signal.aborted) reject(new UpstreamError("Nobody waits for it any more."));
        else fail(`cannot be reached: ${error.message}`);
      });
      request.end();
    });
  }
}

function lengthOf({ headers }: http.IncomingMessage): number | null {
  const length = Number(headers["content-length"] ?? Number.NaN);
  return Number.isSafeInteger(length) && length >= 0 ? length : null;
}

/** Null for any status but the two that mean bytes, as for the real client: a redirect, a 403 and a 404 are the same to it. */
function toAnswer(response: http.IncomingMessage, from: number): UpstreamAnswer | null {
  if ((response.headers["content-encoding"] ?? "identity") !== "identity") return null;
  const length = lengthOf(response);
  if (response.statusCode === 200) return { body: response, from: 0, sizeBytes: length };
  const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers["content-range"] ?? "") ?? [];
  if (response.statusCode !== 206 || Number(start) !== from) return null;
  return { body: response, from, sizeBytes: Number(total) };
}
