import type { MikroORM } from "@mikro-orm/postgresql";
import type { EntityManager } from "../../common/database.js";
import { AppError } from "../../common/errors.js";
import type { CachePolicyRow, CachePolicyService } from "./cache-policy.service.js";

const minuteMs = 60_000;

/** What a project's uploads may take: how many a minute, how large one, how many bytes together. */
export class UploadLimits {
  readonly #orm: MikroORM;
  readonly #policies: CachePolicyService;
  /** When each project's present minute of uploads began, and how many it had. Each process counts for itself. */
  readonly #minutes = new Map<string, { beganAt: number; count: number }>();

  constructor(orm: MikroORM, policies: CachePolicyService) {
    this.#orm = orm;
    this.#policies = policies;
  }

  policyOf(project: string): Promise<CachePolicyRow> {
    return this.#policies.policyOf(project);
  }

  /** Counts an upload of a blob or an entry. RATE_LIMITED beyond the project's rate. */
  async admitRequest(project: string): Promise<CachePolicyRow> {
    const policy = await this.policyOf(project);
    if (policy.uploadsPerMinute == null) return policy;
    const now = performance.now();
    let minute = this.#minutes.get(project);
    if (minute === undefined || now - minute.beganAt >= minuteMs) minute = { beganAt: now, count: 0 };
    this.#minutes.set(project, minute);
    if (minute.count >= policy.uploadsPerMinute) {
      const seconds = Math.ceil((minuteMs - (now - minute.beganAt)) / 1000);
      throw new AppError("RATE_LIMITED", `The project uploads ${policy.uploadsPerMinute} times a minute.`, {
        details: { retryAfterSeconds: seconds },
      });
    }
    minute.count++;
    return policy;
  }

  /**
   * Before the first byte is read. PAYLOAD_TOO_LARGE or QUOTA_EXCEEDED. Returns how large the blob may be. What may be here
   * already, by its size, takes nothing of the quota: whether it is shows at its last byte, and `admitBytes` has the last word.
   */
  async admitBlob(project: string, sizeBytes: number, mostBytes: number): Promise<number> {
    const { maxBlobBytes, quotaBytes } = await this.admitRequest(project);
    const most = Math.min(mostBytes, maxBlobBytes ?? mostBytes);
    if (sizeBytes > most) throw new AppError("PAYLOAD_TOO_LARGE", `A blob has up to ${most} bytes.`);
    if (quotaBytes == null) return most;
    const em = this.#orm.em.fork();
    await checkQuota(em, project, quotaBytes, sizeBytes).catch(async (refusal) => {
      const [known] = await em.execute<object[]>("select 1 from shacache.artifact where size_bytes = ? limit 1", [
        sizeBytes,
      ]);
      if (!known) throw refusal;
    });
    return most;
  }

  /** In the transaction that names the blob, one at a time: uploads at once together do not get beyond the quota. */
  async admitBytes(em: EntityManager, project: string, sizeBytes: number): Promise<void> {
    const { quotaBytes } = await this.#policies.policyOf(project);
    if (quotaBytes == null) return;
    await em.execute("select pg_advisory_xact_lock(hashtext('slapgraph cache quota'), hashtext(?))", [project]);
    await checkQuota(em, project, quotaBytes, sizeBytes);
  }
}

async function checkQuota(em: EntityManager, project: string, quotaBytes: number, sizeBytes: number): Promise<void> {
  const [used] = await em.execute<{ bytes: string | null }[]>(
    "select sum(size_bytes) as bytes from shacache.artifact where project = ?",
    [project],
  );
  const free = quotaBytes - Number(used?.bytes ?? 0);
  if (sizeBytes > free)
    throw new AppError("QUOTA_EXCEEDED", `The project's quota of ${quotaBytes} bytes has ${Math.max(0, free)} left.`);
}
