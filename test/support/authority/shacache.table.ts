import { createHash } from "node:crypto";
import type { Names } from "./scene.js";

/**
 * Who may call each route of the Shacache door, by its name there. Here it lets anybody read, as it does on loopback. Blobs and entries are
 * named by their content and belong to no project.
 */
export const routes: Record<string, [who: string, target: (names: Names) => string, body?: string]> = {
  //                        a-------- anonymous
  //                        |s------- stranger: an OWNER of another project
  //                        ||v------ VIEWER
  //                        |||u----- USER
  //                        ||||o---- OWNER
  //                        |||||n--- node
  //                        ||||||m-- another node
  //                        |||||||i- instance
  //                        ||||||||A administrator
  "GET /shacache/*": ["yyyyyyyyy", (names) => `/shacache/${names.artifact}`],
  "HEAD /shacache/*": ["yyyyyyyyy", (names) => `/shacache/${names.artifact}`],
  "PUT /shacache/*": [
    "!yfyyyyfy",
    () => `/shacache/${createHash("sha512").update("a named artifact").digest("hex")}`,
    "a named artifact",
  ],
  "POST /shacache": ["!yfyyyyfy", () => "/shacache", "another artifact"],
  "GET /shadir/*": ["yyyyyyyyy", (names) => `/shadir/${names.entryKey}`],
  "HEAD /shadir/*": ["yyyyyyyyy", (names) => `/shadir/${names.entryKey}`],
  "PUT /shadir/*": [
    "!yfyyyyfy",
    () => "/shadir/new-key",
    JSON.stringify([JSON.stringify({ sha512: createHash("sha512").digest("hex") }), ""]),
  ],
};

/** Everything else is not there, whatever the method: each of these with each path form. */
export const triedMethods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
export const triedTargets: Record<string, string> = {
  "/shacache": "/shacache",
  "/shacache/*": `/shacache/${"0".repeat(128)}`,
  "/shadir": "/shadir",
  "/shadir/*": "/shadir/none",
  "/": "/",
};
