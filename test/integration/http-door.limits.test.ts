import net from "node:net";
import tls from "node:tls";
import { afterEach, expect, test } from "vitest";
import { CertificateAuthority, createAuthority } from "../../common/certificates.js";
import { type Door, openDoor, sendText } from "../../common/http-door.js";
import { readBody } from "../../common/request-body.js";
import { testLog } from "../support/test-log.js";

let door: Door | undefined;

afterEach(() => door?.close());

const open = async (more: Partial<Parameters<typeof openDoor>[0]> = {}) => {
  door = await openDoor({
    name: "test",
    host: "127.0.0.1",
    port: 0,
    portVariable: "TEST",
    checkReady: async () => undefined,
    log: testLog,
    headersTimeoutMs: 300,
    handler: async (request, response) => {
      const body = await readBody(request, 1_000).catch((error: { code: string }) => error.code);
      sendText(response, 200, typeof body === "string" ? body : `${body.length} bytes`);
    },
    ...more,
  });
  return Number(new URL(door.url).port);
};

const answerTo = (port: number, ...pieces: string[]) =>
  new Promise<string>((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    let text = "";
    socket.on("data", (chunk) => {
      text += String(chunk);
    });
    socket.on("error", () => undefined);
    socket.on("close", () => resolve(text));
    for (const piece of pieces) socket.write(piece);
  });

test.each([
  ["that says nothing", []],
  ["that stops in its request line", ["GET /x HT"]],
  ["that stops in its headers", ["GET /x HTTP/1.1\r\nHost: x\r\nX-Slow: "]],
])("a connection %s is closed", async (_what, pieces) => {
  expect(await answerTo(await open(), ...pieces)).toMatch(/^$|^HTTP\/1.1 408 /);
});

test("a TLS connection that never shakes hands is closed", async () => {
  const authority = await CertificateAuthority.open(await createAuthority());
  const port = await open({ tls: { ...(await authority.issueForServer(["127.0.0.1"])), ca: authority.pem } });
  expect(await answerTo(port)).toBe("");
  const socket = tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  socket.destroy();
});

test("a body that is too large is read some way, so that its sender sees the answer, and no further", async () => {
  const port = await open();
  const head = (length: number) =>
    `POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${length}\r\n\r\n`;
  expect(await answerTo(port, head(900), "x".repeat(900))).toMatch(/900 bytes$/);
  expect(await answerTo(port, head(3_000), "x".repeat(3_000))).toMatch(/PAYLOAD_TOO_LARGE$/);
  expect(await answerTo(port, head(1e12), "x".repeat(100_000))).toMatch(/PAYLOAD_TOO_LARGE$/);
});
