import { Agent, type Dispatcher } from "undici";

const agent = new Agent({ connections: 256, pipelining: 1, keepAliveTimeout: 30_000 });

/**
 * POSTs a body and parses the answer. Connections are kept. By undici's dispatcher, because what `fetch` and node:http put
 * around a call costs the gateway more than all the rest of it.
 */
export function postJson(
  url: URL,
  headers: Record<string, string>,
  body: string,
  timeoutMs: number,
): Promise<{ status: number; json: unknown }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; json: unknown }>();
  const chunks: Buffer[] = [];
  let status = 0;
  let running: Dispatcher.DispatchController | undefined;
  const deadline = setTimeout(() => {
    const late = new Error(`no answer within ${timeoutMs} ms`);
    reject(late);
    running?.abort(late);
  }, timeoutMs);
  agent.dispatch(
    { origin: url.origin, path: `${url.pathname}${url.search}`, method: "POST", headers, body },
    {
      onRequestStart: (controller) => {
        running = controller;
      },
      onResponseStart: (_controller, statusCode) => {
        status = statusCode;
      },
      onResponseData: (_controller, chunk) => void chunks.push(chunk),
      onResponseEnd: () => {
        clearTimeout(deadline);
        try {
          const [first] = chunks;
          const text = first && chunks.length === 1 ? first : Buffer.concat(chunks);
          resolve({ status, json: JSON.parse(text.toString("utf8")) as unknown });
        } catch (error) {
          reject(error);
        }
      },
      onResponseError: (_controller, error) => {
        clearTimeout(deadline);
        reject(error);
      },
    },
  );
  return promise;
}
