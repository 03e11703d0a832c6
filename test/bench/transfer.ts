import net from "node:net";

/**
 * A client that does nothing but move bytes, so that what is measured is the server. Every request has a connection of its
 * own and says `Connection: close`, as the real cache client does, unless it is on a kept one.
 */

/** What is read is thrown away, so it goes over and over into the same memory: the client allocates nothing for it. */
const block = Buffer.allocUnsafeSlow(1024 * 1024);

export interface Target {
  url: string;
  headers?: Record<string, string>;
}

function head(method: string, { url, headers = {} }: Target, more: Record<string, string>): string {
  const { host, pathname, search } = new URL(url);
  const lines = Object.entries({ host, ...headers, ...more }).map(([name, value]) => `${name}: ${value}`);
  return `${method} ${pathname}${search} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`;
}

function connect(url: string): net.Socket {
  const { hostname, port } = new URL(url);
  return net.connect({ host: hostname, port: Number(port), noDelay: true });
}

/** Reads a body and throws it away. Throws unless it was a 200, with so many bytes where that is known. */
export function download(target: Target, sizeBytes: number | null): Promise<void> {
  return new Promise((resolve, reject) => {
    let received = 0;
    let start = "";
    let bodyAt = -1;
    const { hostname, port } = new URL(target.url);
    const socket = net.connect({
      host: hostname,
      port: Number(port),
      onread: {
        buffer: block,
        callback: (count: number, buffer: Uint8Array) => {
          received += count;
          if (bodyAt === -1) {
            start += Buffer.from(buffer.buffer, buffer.byteOffset, Math.min(count, 8192)).toString("latin1");
            bodyAt = start.indexOf("\r\n\r\n");
            if (bodyAt !== -1) bodyAt += 4;
          }
          return true;
        },
      },
    });
    socket.once("error", reject);
    socket.once("close", () => {
      if (start.startsWith("HTTP/1.1 200") && (sizeBytes === null || received - bodyAt === sizeBytes)) resolve();
      else reject(new Error(`${target.url} sent ${received - bodyAt} bytes: ${start.slice(0, 200)}`));
    });
    socket.write(head("GET", target, { connection: "close" }));
  });
}

/** Sends a body of so many bytes. Throws unless the answer is one of success. */
export function upload(
  method: "POST" | "PUT",
  target: Target,
  bytes: Buffer,
  contentType = "application/octet-stream",
): Promise<void> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(target.url);
    socket.setEncoding("latin1");
    socket.once("error", reject);
    socket.on("data", (text: string) => {
      answer += text;
    });
    socket.once("close", () => {
      if (/^HTTP\/1\.[01] 20[01]/.test(answer)) resolve();
      else reject(new Error(`${target.url} answered ${answer.slice(0, 200)}`));
    });
    const type = { "content-type": contentType };
    socket.write(head(method, target, { ...type, "content-length": String(bytes.length), connection: "close" }));
    socket.write(bytes);
  });
}

/** GETs one after the other on a kept connection for some seconds; how many. */
export function getOverAndOver(target: Target, seconds: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = head("GET", target, {});
    const endsAt = performance.now() + seconds * 1000;
    const socket = connect(target.url);
    let count = 0;
    let expected = -1;
    let received = 0;
    let start = "";
    socket.once("error", reject);
    socket.on("data", (bytes) => {
      received += bytes.length;
      if (expected === -1) {
        start += bytes.toString("latin1");
        const end = start.indexOf("\r\n\r\n");
        if (end === -1) return;
        const length = /\r\ncontent-length: (\d+)/i.exec(start)?.[1];
        if (!start.startsWith("HTTP/1.1 200") || length === undefined)
          return void socket.destroy(new Error(`${target.url} answered ${start.slice(0, 200)}`));
        expected = end + 4 + Number(length);
      }
      if (received < expected) return;
      count++;
      expected = -1;
      received = 0;
      start = "";
      if (performance.now() < endsAt) return void socket.write(request);
      socket.end();
      resolve(count);
    });
    socket.write(request);
  });
}
