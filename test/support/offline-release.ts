import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";

const example = path.resolve(import.meta.dirname, "../../examples/hello-release");
/** The release for the tests of trees. */
export const treeRelease = path.resolve(import.meta.dirname, "../../test/support/tree-release");

/** A release, by default the README's example, served as releases are: under an http URL. Real buildout builds it without a network. */
export async function startOfflineRelease(
  source = example,
): Promise<{ url: string; folder: string; close(): Promise<void> }> {
  const folder = mkdtempSync("/tmp/sr-");
  chmodSync(folder, 0o755);
  cpSync(source, folder, { recursive: true });
  const software = readFileSync(path.join(folder, "software.cfg.in"), "utf8").replaceAll("@folder@", folder);
  const server = createServer((request, response) => {
    if (request.url === "/software.cfg")
      return void response.writeHead(200, { "content-type": "text/plain" }).end(software);
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  // develop-eggs and egg-info are written beside the egg by whoever builds, who is not the one that made it.
  for (const name of ["egg", source === example ? "egg/hello" : "egg/tree"]) chmodSync(path.join(folder, name), 0o777);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/software.cfg`,
    folder,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
