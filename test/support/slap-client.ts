import type { DumpableRecord, DumpableValue } from "../../slap/xml-marshaller.js";
import { dumps } from "../../slap/xml-marshaller.js";

/** The bodies that the real client posts (slap-protocol.md §1.3), for many calls at once where Python would be what is measured. */
export const slapForms = {
  format: (computer: string, partitions: number) =>
    form({
      xml: dumps({
        reference: computer,
        address: "127.0.0.1",
        netmask: "255.255.255.255",
        partition_list: Array.from({ length: partitions }, (_, number) => ({
          reference: `slappart${number}`,
          address_list: [
            { addr: `10.0.${number >> 8}.${number & 255}`, netmask: "255.255.255.255" },
            { addr: `2001:db8::${number.toString(16)}`, netmask: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
          ],
          tap: { name: `slaptap${number}` },
        })),
      }),
    }),
  supply: (computer: string, url: string) => form({ computer_id: computer, url, state: "available" }),
  request: (
    title: string,
    releaseUrl: string,
    parameters: DumpableRecord,
    filter: DumpableRecord,
    state: DumpableValue = null,
    isShared = false,
  ) =>
    form({
      software_release: releaseUrl,
      software_type: "default",
      partition_reference: title,
      partition_parameter_xml: dumps(parameters),
      filter_xml: dumps(filter),
      state: dumps(state),
      shared_xml: dumps(isShared),
    }),
  connection: (key: string, parameters: DumpableRecord) =>
    form({ ...ofPartition(key), connection_xml: dumps(parameters), slave_reference: "None" }),
  partition: (key: string) => form(ofPartition(key)),
  error: (key: string, message: string) => form({ ...ofPartition(key), error_log: message }),
};

function ofPartition(key: string) {
  const [computer = "", partition = ""] = key.split("/");
  return { computer_id: computer, computer_partition_id: partition };
}

function form(fields: Record<string, string>): string {
  return new URLSearchParams(fields).toString();
}

/** One call; the answer's text with its status. `masterUrl` ends with a slash. */
export async function slapPost(masterUrl: string, endpoint: string, body: string) {
  const response = await fetch(masterUrl + endpoint, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body,
  });
  return { status: response.status, text: await response.text() };
}
