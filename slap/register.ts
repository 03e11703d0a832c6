import type http from "node:http";
import type { AuditTrail } from "../common/audit.js";
import { AppError } from "../common/errors.js";
import { readBody } from "../common/request-body.js";
import type { SlapAnswer, SlapServices } from "./routes.js";

/** `slapos node register` posts here (§4), with a registration token instead of a credential. */
export const registerEndpoint = "Person_requestComputer";

/** A title in a form, from whoever comes. */
const maxFormBytes = 64 * 1024;

/**
 * Lets a node in: a computer of its title and a certificate for it. Each step is durable and the same call goes on where
 * an earlier one broke off, so that a crash in the middle costs neither the token's use nor the name.
 */
export async function register(
  request: http.IncomingMessage,
  services: SlapServices,
  audit: AuditTrail,
  requestId: string,
): Promise<SlapAnswer> {
  const secret = request.headers["x-access-token"];
  const title = new URLSearchParams(String(await readBody(request, maxFormBytes))).get("title") ?? "";
  if (typeof secret !== "string") throw new AppError("FORBIDDEN", "No registration token came as X-Access-Token.");
  const begun = await services.registrations.beginRegistration(secret, title);
  // A record of who made the token: whoever holds it acts on its maker's word.
  const command = { door: "SLAP" as const, action: registerEndpoint, caller: begun.owner, requestId, target: title };
  return audit.run(command, () => goOn(begun, title, services));
}

async function goOn(
  { tokenId, owner, isResumed }: Awaited<ReturnType<SlapServices["registrations"]["beginRegistration"]>>,
  title: string,
  { registrations, computers, certificates }: SlapServices,
): Promise<SlapAnswer> {
  try {
    const { reference, project } = await computers.requestComputer(owner, title);
    // The certificate of the try that broke off was never used: its key was lost with the answer.
    if (isResumed) await certificates.revokeComputerCertificate(owner, { reference, project }).catch(ignoreAbsence);
    const { certificate, key } = await certificates.createComputerCertificate(owner, { reference, project });
    await registrations.endRegistration(tokenId, title, owner, reference);
    return { json: { certificate, key, reference } };
  } catch (error) {
    if (error instanceof AppError && error.code === "STATE_CONFLICT")
      await registrations.cancelRegistration(tokenId, title);
    throw error;
  }
}

function ignoreAbsence(error: unknown): void {
  if (!(error instanceof AppError && error.code === "NOT_FOUND")) throw error;
}
