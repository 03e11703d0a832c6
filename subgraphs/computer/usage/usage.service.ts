import type { InferEntity } from "@mikro-orm/core";
import type { MikroORM } from "@mikro-orm/postgresql";
import { AppError } from "../../../common/errors.js";
import type { EventLog } from "../../../common/event-log.js";
import type { Caller } from "../../../common/identity.js";
import { pagePerParent } from "../../../common/page-per-parent.js";
import type { Page } from "../../../common/pagination.js";
import { ComputerEntity } from "../computer/computer.entity.js";
import { noComputer } from "../computer/computer.service.js";
import { speaksForComputer, visibleUsage } from "../visibility.js";
import { UsageEntity } from "./usage.entity.js";

export type UsageRow = InferEntity<typeof UsageEntity>;

const maxReportLength = 1024 * 1024;
/** About a month of a report each hour; older ones give way. */
const keptPerComputer = 750;

export class UsageService {
  readonly #orm: MikroORM;
  readonly #eventLog: EventLog;

  constructor(orm: MikroORM, eventLog: EventLog) {
    this.#orm = orm;
    this.#eventLog = eventLog;
  }

  /** Keeps a node's report. The text is TioXML, checked by whoever read it off the wire. */
  async reportUsage(caller: Caller, computerReference: string, tioxml: string): Promise<void> {
    if (tioxml.length > maxReportLength)
      throw new AppError("PAYLOAD_TOO_LARGE", `A usage report has up to ${maxReportLength} characters.`);
    await this.#eventLog.transact(this.#orm, async (em, append) => {
      const computer = speaksForComputer(caller, computerReference)
        ? await em.findOne(ComputerEntity, { reference: computerReference })
        : null;
      if (!computer) throw noComputer(computerReference);
      const [number] = await em.execute<{ number: string }[]>("select nextval('computer.usage_number') as number");
      const id = `${computerReference} ${String(number?.number).padStart(12, "0")}`;
      const { project } = computer;
      em.create(UsageEntity, { id, computerReference, project, at: new Date(), tioxml });
      await em.flush();
      await em.execute(
        `delete from computer.usage_report where computer_reference = ? and id <= (
           select id from computer.usage_report where computer_reference = ? order by id desc offset ${keptPerComputer} limit 1)`,
        [computerReference, computerReference],
      );
      await append({ kind: "UsageReported", subject: computerReference, project, actor: caller.subject });
    });
  }

  /** One page of reports for each of the computers, oldest first. */
  async usageOfComputers(caller: Caller, references: readonly string[], page: Page): Promise<UsageRow[][]> {
    return pagePerParent(this.#orm.em.fork(), {
      entity: UsageEntity,
      parents: references,
      parentSql: '"row"."computer_reference"',
      parentOf: (row) => row.computerReference,
      key: "id",
      where: { $and: [{ computerReference: { $in: [...references] } }, visibleUsage(caller)] },
      page,
    });
  }
}
