import { Rows } from "../../common/rows.js";
import { ComputerEntity } from "./computer/computer.entity.js";
import type { ComputerRow } from "./computer/computer.service.js";
import { InstallationEntity } from "./installation/installation.entity.js";
import type { InstallationRow } from "./installation/installation.service.js";
import { InstanceEntity } from "./instance/instance.entity.js";
import type { InstanceRow } from "./instance/instance.service.js";
import { PartitionEntity } from "./partition/partition.entity.js";
import type { PartitionRow } from "./partition/partition.service.js";

/** What nodes ask and say every minute is read past the unit of work. */
export const computerRows = new Rows<ComputerRow>(ComputerEntity);
export const instanceRows = new Rows<InstanceRow>(InstanceEntity);
export const partitionRows = new Rows<PartitionRow>(PartitionEntity);
export const installationRows = new Rows<InstallationRow>(InstallationEntity);
