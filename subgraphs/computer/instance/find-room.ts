import type { EntityManager } from "../../../common/database.js";
import { ComputerEntity } from "../computer/computer.entity.js";
import { PartitionEntity } from "../partition/partition.entity.js";
import type { PartitionRow } from "../partition/partition.service.js";
import { lockComputer } from "../revision.js";
import { type Reason, reasonsAgainstComputer, reasonsAgainstPartition } from "./allocate.js";
import type { InstanceRow } from "./instance.service.js";

const maxReasons = 20;

/**
 * A free partition that fits, its computer locked so that nobody else can take it before the transaction ends; or the
 * reasons why there is none. Candidates come from the database, a computer that has the release first; each is judged
 * again under its lock, and one that was taken meanwhile sends the search on, so a fitting free partition is found.
 */
export async function findRoom(
  em: EntityManager,
  row: InstanceRow,
): Promise<{ partition: PartitionRow } | { reasons: Reason[] }> {
  const request = { project: row.project, filter: row.filter };
  const { computer_guid: computerReference, capability } = row.filter;
  const tried: string[] = [];
  for (;;) {
    const [candidate] = await em.execute<{ reference: string }[]>(
      `select c.reference from computer.computer c
       where c.project = ? and c.scope = 'OPEN' and (?::text is null or c.reference = ?)
         and not (c.reference = any(?::text[]))
         and exists (select 1 from computer.partition p where p.computer_reference = c.reference and p.state = 'FREE' and p.is_listed
           and (case when ?::text is null then p.capabilities = '[]'::jsonb else p.capabilities @> jsonb_build_array(?::text) end))
       order by exists (select 1 from computer.installation i where i.computer_reference = c.reference and i.url = ?
           and i.requested_state = 'AVAILABLE') desc, c.liveness in ('ONLINE', 'UNSEEN') desc, c.reference
       limit 1`,
      [
        row.project,
        computerReference ?? null,
        computerReference ?? null,
        `{${tried.map((reference) => `"${reference}"`).join(",")}}`,
        capability ?? null,
        capability ?? null,
        row.releaseUrl,
      ],
    );
    if (!candidate) return { reasons: await explain(em, row) };
    tried.push(candidate.reference);
    await lockComputer(em, candidate.reference);
    const computer = await em.findOneOrFail(ComputerEntity, { reference: candidate.reference }, { refresh: true });
    if (reasonsAgainstComputer(request, computer).length > 0) continue;
    const [free] = await em.execute<{ key: string }[]>(
      `select key from computer.partition where computer_reference = ? and state = 'FREE' and is_listed
         and (case when ?::text is null then capabilities = '[]'::jsonb else capabilities @> jsonb_build_array(?::text) end)
       order by length(key), key limit 1`,
      [candidate.reference, capability ?? null, capability ?? null],
    );
    if (!free) continue;
    const partition = await em.findOneOrFail(PartitionEntity, { key: free.key }, { refresh: true });
    if (reasonsAgainstPartition(request, partition).length === 0) return { partition };
  }
}

/** A bounded explanation over the computers of the project, for the requester's eyes. */
async function explain(em: EntityManager, row: InstanceRow): Promise<Reason[]> {
  const request = { project: row.project, filter: row.filter };
  const computers = await em.find(
    ComputerEntity,
    { project: row.project },
    { orderBy: { reference: "asc" }, limit: maxReasons },
  );
  if (computers.length === 0)
    return [{ constraint: "project", message: `The project ${row.project} has no computer.` }];
  const wanted = row.filter.computer_guid;
  const named = wanted === undefined ? computers : computers.filter((computer) => computer.reference === wanted);
  if (
    wanted !== undefined &&
    named.length === 0 &&
    !(await em.findOne(ComputerEntity, { reference: wanted, project: row.project }))
  ) {
    return [
      { constraint: "computer_guid", message: `The project ${row.project} has no computer ${wanted.slice(0, 80)}.` },
    ];
  }
  const reasons: Reason[] = [];
  for (const computer of named) {
    const against = reasonsAgainstComputer(request, computer);
    if (against.length > 0) {
      reasons.push(...against);
      continue;
    }
    const partitions = await em.find(
      PartitionEntity,
      { computerReference: computer.reference },
      { orderBy: { key: "asc" }, limit: maxReasons },
    );
    if (partitions.length === 0)
      reasons.push({ constraint: "state", message: `${computer.reference} has no partition.` });
    for (const partition of partitions) reasons.push(...reasonsAgainstPartition(request, partition));
    if (reasons.length >= maxReasons) break;
  }
  return reasons.slice(0, maxReasons);
}
