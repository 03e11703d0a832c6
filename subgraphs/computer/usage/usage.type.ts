import { Field, GraphQLISODateTime, ObjectType } from "type-graphql";
import { type Connection, connectionTypes } from "../../../common/pagination.type.js";
import type { UsageRow } from "./usage.service.js";

@ObjectType({ description: "What a node said that its instances consumed." })
export class UsageReport {
  @Field(() => GraphQLISODateTime, { description: "When it came in." })
  at!: Date;

  @Field({ description: "TioXML as the node sent it (slapos.core's computer_consumption.xsd)." })
  tioxml!: string;
}

export const { ConnectionType: UsageReportConnection } = connectionTypes("UsageReport", () => UsageReport);
export type UsageReportPage = Connection<UsageReport>;

export function toUsageReport({ at, tioxml }: UsageRow): UsageReport {
  return { at, tioxml };
}
