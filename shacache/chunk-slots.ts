import { chunkBytes } from "./chunk-digests.js";

/** Memory of a chunk each, used again and again: to have it made anew for every chunk takes longer than to read one. */
const keptSlots: Buffer[] = [];
const maxKeptSlots = 64;

export function takeSlot(): Buffer {
  return keptSlots.pop() ?? Buffer.allocUnsafeSlow(chunkBytes);
}

/** Nobody reads or writes it any more. */
export function keepSlot(slot: Buffer): void {
  if (keptSlots.length < maxKeptSlots) keptSlots.push(slot);
}
