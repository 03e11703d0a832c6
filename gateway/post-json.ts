import http from "node:http";
import https from "node:https";

const agents = {
  "http:": new http.Agent({ keepAlive: true, maxSockets: 256 }),
  "https:": new https.Agent({ keepAlive: true, maxSockets: 256 }),
};

/**
 * POSTs a body and parses the answer. Connections are kept. node:http, because `fetch` with its streams of streams costs
 * the gateway a fifth of its time for what is read whole anyway.
 */
export function postJson(
  url: URL,
  headers: Record<string, string>,
  body: string,
  timeoutMs: number,
): Promise<{ status: number; json: unknown }> {
  const isTls = url.protocol === "https:";
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; json: unknown }>();
  const options = {
    method: "POST",
    agent: agents[isTls ? "https:" : "http:"],
    headers: { ...headers, "content-length": Buffer.byteLength(body) },
  };
  const request = (isTls ? https : http).request(url, options, (response) => {
    const chunks: Buffer[] = [];
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    response.once("error", reject);
    response.once("end", () => {
      try {
        const json: unknown = JSON.parse(Buffer.concat(chunks).toString("utf8"));
        resolve({ status: response.statusCode ?? 0, json });
      } catch (error) {
        reject(error);
      }
    });
  });
  const deadline = setTimeout(() => request.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  request.once("error", reject);
  request.once("close", () => {
    clearTimeout(deadline);
    // A connection that ends in the middle of an answer says so here only.
    reject(new Error("the connection ended before the answer"));
  });
  request.end(body);
  return promise;
}
