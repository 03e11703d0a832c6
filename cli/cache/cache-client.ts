import http from "node:http";
import https from "node:https";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { errorTable } from "../../common/errors.js";
import { CacheError } from "./cache-error.js";

export interface CacheAddress {
  /** The Shacache door, with `/shacache` and `/shadir` below it. */
  url: string;
  token: string | null;
  maxSockets: number;
  /** Download from the store behind the cache, where it takes clients. */
  isDirect?: boolean;
}

export interface Download {
  stream: Readable;
  /** Where in the blob the stream starts: what was asked for, or 0 where the cache sends all of it. */
  from: number;
  sizeBytes: number | null;
}

/** A transfer may pause this long. */
const stallMs = 60_000;
/** After the last byte of an upload the cache makes it durable, which takes its time on a slow store. */
const commitMs = 600_000;
const maxAnswerBytes = 64 * 1024 * 1024;

/** The Shacache's modern lane over kept connections. What it answers otherwise than asked is a CacheError. */
export class CacheClient {
  readonly #base: URL;
  readonly #token: string | null;
  readonly #agent: http.Agent;
  readonly #isDirect: boolean;

  constructor({ url, token, maxSockets, isDirect = false }: CacheAddress) {
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw new CacheError("refused", `--cache takes an http:// or https:// address, not ${url}.`);
    this.#base = new URL(url);
    this.#token = token;
    this.#isDirect = isDirect;
    this.#agent =
      this.#base.protocol === "https:"
        ? new https.Agent({ keepAlive: true, maxSockets })
        : new http.Agent({ keepAlive: true, maxSockets });
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Null when the blob is not there: in the cache itself, whatever its upstreams have. */
  async stat(sha512: string): Promise<{ sizeBytes: number } | null> {
    const response = await this.#send("HEAD", `/shacache/${sha512}`, { "cache-control": "only-if-cached" });
    response.resume();
    if (response.statusCode === 404) return null;
    await expectStatus(response, 200);
    return { sizeBytes: Number(response.headers["content-length"]) };
  }

  /** Sends a blob under its name; the cache compares and answers once it is durable. */
  async upload(sha512: string, body: Readable, sizeBytes: number): Promise<void> {
    const headers = { "content-length": sizeBytes, "content-type": "application/octet-stream" };
    const response = await this.#send("PUT", `/shacache/${sha512}`, headers, body);
    await expectStatus(response, 200, 201, 204);
    response.resume();
  }

  /** The blob from a byte on. Null when it is not there. */
  async download(sha512: string, from = 0): Promise<Download | null> {
    const range = from > 0 ? { range: `bytes=${from}-`, "if-range": `"${sha512}"` } : {};
    const answer = await this.#send("GET", `/shacache/${sha512}${this.#isDirect ? "?direct" : ""}`, range);
    const response = answer.statusCode === 307 ? await this.#follow(answer, range) : answer;
    if (response.statusCode === 404) {
      response.resume();
      return null;
    }
    // There is nothing after the byte that was asked from: what is here is all of it, or not of this blob.
    if (response.statusCode === 416) {
      response.resume();
      throw new CacheError("beyond", `The blob has no bytes from ${from} on.`);
    }
    await expectStatus(response, 200, 206);
    const length = response.headers["content-length"];
    const start = response.statusCode === 206 ? from : 0;
    return { stream: response, from: start, sizeBytes: length === undefined ? null : start + Number(length) };
  }

  /** The bodies of the entries under a key, newest first; none for a key that nobody put. */
  async entries(key: string): Promise<[metadata: string, signature: string][]> {
    const response = await this.#send("GET", `/shadir/${checkedKey(key)}`);
    if (response.statusCode === 404) {
      response.resume();
      return [];
    }
    await expectStatus(response, 200);
    if (Number(response.headers["content-length"] ?? 0) > maxAnswerBytes)
      throw new CacheError("refused", "The directory's answer is too large.");
    return JSON.parse(await text(response)) as [string, string][];
  }

  async putEntry(key: string, entry: [metadata: string, signature: string]): Promise<void> {
    const body = Buffer.from(JSON.stringify(entry));
    const headers = { "content-length": body.length, "content-type": "application/json" };
    const response = await this.#send("PUT", `/shadir/${checkedKey(key)}`, headers, body);
    await expectStatus(response, 201);
    response.resume();
  }

  #send(
    method: string,
    path: string,
    headers: http.OutgoingHttpHeaders = {},
    body?: Readable | Buffer,
  ): Promise<http.IncomingMessage> {
    const { protocol, hostname, port, pathname } = this.#base;
    const authorization = this.#token === null ? {} : { authorization: `Bearer ${this.#token}` };
    const options = {
      agent: this.#agent,
      protocol,
      hostname: hostname.replace(/^\[|\]$/g, ""),
      port,
      method,
      // Written as it is: a URL parser would change keys.
      path: pathname.replace(/\/+$/, "") + path,
      headers: { ...headers, ...authorization },
    };
    return exchange((protocol === "https:" ? https : http).request(options), this.#base.origin, body);
  }

  /** Where the cache sends us, our token is none of the business. */
  #follow(answer: http.IncomingMessage, headers: http.OutgoingHttpHeaders): Promise<http.IncomingMessage> {
    answer.resume();
    const { location = "" } = answer.headers;
    if (!URL.canParse(location)) throw new CacheError("refused", "The cache redirects to nowhere.");
    const { protocol, origin } = new URL(location);
    return exchange((protocol === "https:" ? https : http).request(location, { headers }), origin);
  }
}

/** Resolves with the answer's head, be the body sent or not. */
function exchange(
  request: http.ClientRequest,
  origin: string,
  body?: Readable | Buffer,
): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) =>
      reject(new CacheError("unreachable", `${origin} does not answer: ${error.message || error}`));
    request.setTimeout(stallMs, () => request.destroy(new Error("it stalls")));
    request.on("error", fail);
    request.on("response", resolve);
    if (!body || Buffer.isBuffer(body)) request.end(body);
    else {
      pipeline(body, request).then(
        () => request.setTimeout(commitMs),
        // A body that fails destroys the request; why is known here only.
        (error) => (error instanceof CacheError ? reject(error) : fail(error)),
      );
    }
  });
}

async function expectStatus(response: http.IncomingMessage, ...expected: number[]): Promise<void> {
  const status = response.statusCode ?? 0;
  if (expected.includes(status)) return;
  const said = (await text(response).catch(() => "")).trim().slice(0, 500) || meaningOf(status);
  const isPassing = status === 408 || status === 429 || (status >= 500 && status !== 507);
  const retryAfterMs = Number(response.headers["retry-after"] ?? Number.NaN) * 1000;
  throw new CacheError(
    isPassing ? "unreachable" : "refused",
    `The cache answered ${status} ${said}`,
    Number.isFinite(retryAfterMs) ? retryAfterMs : undefined,
  );
}

/** Answers to reads have no text: what the code of such a status means. */
function meaningOf(status: number): string {
  const [code, row] = Object.entries(errorTable).find(([, { httpStatus }]) => httpStatus === status) ?? [];
  return row ? `${code}: ${row.meaning} ${row.remedy}` : "";
}

/** A key goes into the request's target byte for byte, so it is made of what a target takes. */
function checkedKey(key: string): string {
  if (/^[\x21\x22\x24-\x3e\x40-\x7e]+$/.test(key)) return key;
  throw new CacheError("refused", `A key has visible ASCII characters other than ? and #: ${JSON.stringify(key)}`);
}
