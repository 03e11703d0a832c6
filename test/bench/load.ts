import http from "node:http";

export interface Load {
  url: string;
  connections?: number;
  /** For some seconds, or for a number of requests. */
  seconds?: number;
  amount?: number;
  /** POSTs this body, made anew for the n-th request. GETs without it. */
  body?: (n: number) => string;
}

/**
 * Requests a second, each connection kept where the server keeps it. Throws unless every answer was 200, so that a fast
 * refusal is never taken for speed.
 */
export async function rate({
  url,
  body,
  connections = 8,
  seconds,
  amount = Number.POSITIVE_INFINITY,
}: Load): Promise<number> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: connections });
  const startedAt = performance.now();
  const endsAt = seconds === undefined ? Number.POSITIVE_INFINITY : startedAt + seconds * 1000;
  let sent = 0;
  const client = async () => {
    while (sent < amount && performance.now() < endsAt) {
      const status = await call(url, agent, body?.(sent++));
      if (body === undefined) sent++;
      if (status !== 200) throw new Error(`${url} answered ${status}`);
    }
  };
  await Promise.all(Array.from({ length: connections }, client));
  agent.destroy();
  return sent / ((performance.now() - startedAt) / 1000);
}

/** One call on a connection of the agent's, its answer read and dropped; the status. */
export function call(url: string, agent: http.Agent, body?: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const options =
      body === undefined
        ? { agent }
        : {
            agent,
            method: "POST",
            headers: {
              "content-type": "application/x-www-form-urlencoded",
              "content-length": Buffer.byteLength(body),
            },
          };
    const request = http.request(url, options, (response) => {
      response.resume();
      response.once("end", () => resolve(response.statusCode));
      response.once("error", reject);
    });
    request.once("error", reject);
    request.end(body);
  });
}
