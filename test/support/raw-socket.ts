import net from "node:net";

/** An answer is read for so long at the most; who waits for more of a request does not answer at all. */
const quietMs = 150;

/** Sends bytes as they are, and returns what came back until the door closed or fell silent. */
export function rawRequest(port: number, bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1");
    const chunks: Buffer[] = [];
    const finish = () => {
      socket.destroy();
      resolve(Buffer.concat(chunks).toString("latin1"));
    };
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("close", finish);
    socket.on("error", () => undefined);
    socket.setTimeout(quietMs, finish);
    socket.end(bytes);
  });
}
