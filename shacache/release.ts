/**
 * Gives the memory of a piece that a connection brought back at once; nobody may use it any more. Left to the collector, a
 * stream of such pieces makes it go through the whole heap every thousand of them, which costs more than to hash them.
 */
export function release({ buffer, byteLength }: Buffer): void {
  // What shares its memory with others stays.
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
