import { workerData } from "node:worker_threads";
import { newBlob } from "./shacache-servers.js";
import { upload } from "./transfer.js";

/** Eight uploads at a time of new bytes, until it is ended: beside whoever measures what they do to others. */
const { url, sizeBytes } = workerData as { url: string; sizeBytes: number };
await Promise.all(
  Array.from({ length: 8 }, async () => {
    const blob = newBlob(sizeBytes);
    for (;;) {
      blob.writeUInt32LE(Math.floor(Math.random() * 2 ** 32), 0);
      await upload("POST", { url }, blob);
    }
  }),
);
