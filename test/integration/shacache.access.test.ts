import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { request as httpsRequest } from "node:https";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CertificateAuthority, createAuthority } from "../../common/certificates.js";
import { adminToken } from "../support/database.js";
import { openShacacheFixture, type ShacacheFixture } from "../support/shacache-fixture.js";
import { waitFor } from "../support/wait-for.js";

const bytes = randomBytes(10_000);
const sha512 = createHash("sha512").update(bytes).digest("hex");
const basic = (token: string) => ({ authorization: `Basic ${Buffer.from(`node:${token}`).toString("base64")}` });
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

type Kind = "owner" | "user" | "viewer" | "node" | "instance";

describe("who may read and write", () => {
  let open: ShacacheFixture;
  let closed: ShacacheFixture;
  const tokens: Record<string, string> = {};

  beforeAll(async () => {
    open = await openShacacheFixture("files", { SLAPGRAPH_SHACACHE_TLS_PORT: "0" });
    closed = await openShacacheFixture("files", { SLAPGRAPH_SHACACHE_OPEN_READS: "off" });
  });

  afterAll(async () => {
    await open?.close();
    await closed?.close();
  });

  async function tokenOf(cache: ShacacheFixture, kind: Kind): Promise<string> {
    const claims = { subject: kind, project: "main", lifetimeSeconds: 600 };
    const issued = await cache.resources.tokens.issue(
      kind === "node" || kind === "instance"
        ? { ...claims, kind }
        : { ...claims, kind: "person", role: kind.toUpperCase() as "OWNER" },
    );
    tokens[kind] = issued.token;
    return issued.token;
  }

  test("nodes, users, owners and the administrator write, with Bearer, Basic or the token in the path", async () => {
    for (const token of [
      adminToken,
      ...(await Promise.all((["node", "user", "owner"] as const).map((kind) => tokenOf(open, kind)))),
    ]) {
      const answers = [
        await open.raw("POST", `/k/${token}/shacache`, bytes),
        await open.raw("POST", "/shacache", bytes, bearer(token)),
        await open.raw("POST", "/shacache", bytes, basic(token)),
      ];
      expect(answers.map(({ status, body }) => [status, body.toString()])).toEqual(Array(3).fill([201, sha512]));
      expect((await open.raw("PUT", "/shadir/key", Buffer.from('["{}", ""]'), bearer(token))).status).toBe(201);
    }
  });

  test("viewers and instances are refused with 403, nobody and a wrong token with 401, after all their bytes were taken", async () => {
    const large = randomBytes(12 * 1024 * 1024);
    for (const kind of ["viewer", "instance"] as const) {
      const refused = await open.raw("POST", "/shacache", large, bearer(await tokenOf(open, kind)));
      expect([refused.status, refused.body.toString()]).toEqual([403, expect.stringContaining("FORBIDDEN")]);
      expect((await open.raw("PUT", "/shadir/key", Buffer.from("[]"), bearer(tokens[kind] ?? ""))).status).toBe(403);
    }
    expect((await open.raw("POST", "/shacache", large)).status).toBe(401);
    expect((await open.raw("POST", "/k/nonsense/shacache", large)).status).toBe(401);
    expect((await open.raw("PUT", "/shadir/key", Buffer.from('["{}", ""]'))).status).toBe(401);
  });

  test("who pauses in the middle of a refused upload sees why all the same, and not a broken pipe", async () => {
    const socket = connect(Number(new URL(open.door.url).port), "127.0.0.1");
    let answer = "";
    let failure: Error | undefined;
    socket.setEncoding("latin1").on("data", (text: string) => {
      answer += text;
    });
    socket.on("error", (error) => {
      failure = error;
    });
    socket.write(`POST /shacache HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4000000\r\n\r\n`);
    // The refusal comes in the pause; what is sent after it is still taken.
    await waitFor(() => answer.includes("UNAUTHENTICATED"));
    for (let part = 0; part < 4; part++) {
      await delay(100);
      socket.write(Buffer.alloc(1_000_000));
    }
    await once(socket, "close");
    expect([failure, answer.slice(0, 12)]).toEqual([undefined, "HTTP/1.1 401"]);
  });

  test("on loopback anybody reads; in private mode a credential is needed, and what is there is not told without one", async () => {
    expect((await open.raw("GET", `/shacache/${sha512}`)).status).toBe(200);
    expect((await open.raw("GET", "/shadir/key")).status).toBe(200);
    expect((await closed.upload(bytes)).status).toBe(201);
    for (const target of [`/shacache/${sha512}`, `/shacache/${"0".repeat(128)}`, "/shadir/key", "/shadir/none"]) {
      const refused = await closed.raw("GET", target);
      expect(refused.status, target).toBe(401);
    }
    const token = await tokenOf(closed, "node");
    expect((await closed.raw("GET", `/k/${token}/shacache/${sha512}`)).body.equals(bytes)).toBe(true);
    expect((await closed.raw("GET", `/shacache/${sha512}`, undefined, basic(token))).status).toBe(200);
  });

  describe("over TLS", () => {
    const over = (
      method: string,
      target: string,
      client: { cert?: string; key?: string },
      body?: Buffer,
    ): Promise<{ status: number; text: string }> =>
      new Promise((resolve, reject) => {
        const url = new URL(open.door.tlsUrl ?? "");
        const headers = body ? { "content-length": body.length } : {};
        const ca = open.resources.certificates.pem;
        const sent = httpsRequest(
          { hostname: url.hostname, port: url.port, method, path: target, agent: false, ca, headers, ...client },
          (response) => {
            let text = "";
            response.setEncoding("latin1").on("data", (chunk: string) => {
              text += chunk;
            });
            response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
          },
        );
        sent.on("error", reject);
        sent.end(body);
      });
    const issue = async (kind: "node" | "instance", authority = open.resources.certificates) => {
      const issued = await authority.issue({ kind, subject: `COMP-${kind}`, project: "main", lifetimeDays: 1 });
      return { cert: issued.certificate, key: issued.key };
    };

    test("a node writes with its client certificate, and is known by it", async () => {
      const own = randomBytes(3_000);
      const digest = createHash("sha512").update(own).digest("hex");
      expect(await over("POST", "/shacache", await issue("node"), own)).toEqual({ status: 201, text: digest });
      const rows = await open.rows("select uploaded_by from shacache.artifact where sha512 = $1", [digest]);
      expect(rows).toEqual([{ uploaded_by: "COMP-node" }]);
    });

    test("an instance's certificate, a foreign one and none are refused with their codes", async () => {
      expect((await over("POST", "/shacache", await issue("instance"), bytes)).status).toBe(403);
      const foreign = await CertificateAuthority.open(await createAuthority());
      expect((await over("POST", "/shacache", await issue("node", foreign), bytes)).status).toBe(401);
      expect((await over("POST", "/shacache", {}, bytes)).status).toBe(401);
    });

    test("anybody reads there too", async () => {
      expect((await over("GET", `/shacache/${sha512}`, {})).status).toBe(200);
    });
  });

  test("no path and no key reaches outside its store", async () => {
    for (const key of [
      "../../etc/passwd",
      "..%2f..%2fetc%2fpasswd",
      `../shacache/${sha512}`,
      "/etc/passwd",
      "%00",
      ".",
    ]) {
      expect((await open.raw("GET", `/shacache/${key}`)).status, key).toBe(404);
      expect((await open.raw("GET", `/shadir/${key}`)).status, key).toBe(404);
    }
    for (const target of ["/", "/shacache", "/shadir/", "/elsewhere", `/shadir/../shacache/${sha512}`])
      expect((await open.raw("GET", target)).status, target).toBe(404);
    expect((await open.raw("DELETE", `/k/${adminToken}/shacache/${sha512}`)).status).toBe(404);
  });

  test("an answer to a request that closes says so, or the client throws its body away", async () => {
    const { hostname, port } = new URL(open.door.url);
    for (const target of [`/shacache/${sha512}`, "/shacache/none", "/shadir/key"]) {
      const socket = connect(Number(port), hostname);
      socket.write(`GET ${target} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n`);
      const head = (await socket.toArray()).join("").split("\r\n\r\n", 1)[0] ?? "";
      expect(head.toLowerCase(), target).toContain("connection: close");
    }
  });
});
