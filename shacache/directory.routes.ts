import { AppError } from "../common/errors.js";
import { sendText } from "../common/http-door.js";
import { announcedBytes, cutWhenStalled } from "./request-body.js";
import type { Exchange, Routes } from "./routes.js";

const maxEntryBytes = 1024 * 1024;

/** What `slapos.libnetworkcache` says to SHADIR (shacache-protocol.md §1.3). */
export const directoryRoutes: Routes = {
  "GET /shadir/*": sendEntries,
  "PUT /shadir/*": receiveEntry,
};

async function sendEntries({ response, services, key }: Exchange): Promise<void> {
  const body = await services.entries.read(key);
  if (body === null) throw new AppError("NOT_FOUND", "There is no entry under this key.");
  response.writeHead(200, {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
  });
  response.end(body);
}

async function receiveEntry({ request, response, services, caller, key }: Exchange): Promise<void> {
  if (announcedBytes(request) > maxEntryBytes)
    throw new AppError("PAYLOAD_TOO_LARGE", `An entry has up to ${maxEntryBytes} bytes.`);
  cutWhenStalled(request);
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  await services.entries.put(caller, key, Buffer.concat(chunks).toString("utf8"));
  sendText(response, 201, "stored\n");
}
