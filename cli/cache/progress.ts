import { MultiBar, Presets } from "cli-progress";

export interface Bar {
  /** Bytes that this transfer has done so far. */
  readonly doneBytes: number;
  /** Says anew how far it is, where it goes on from. */
  start(doneBytes: number, totalBytes: number): void;
  add(bytes: number): void;
  end(): void;
}

const nameWidth = 40;

/** A bar for each transfer under way, where somebody looks: on a terminal's stderr. Elsewhere only the counting. */
export class Progress {
  readonly #bars = process.stderr.isTTY
    ? new MultiBar(
        {
          stream: process.stderr,
          clearOnComplete: true,
          hideCursor: true,
          format: "{name} {bar} {percentage}% {value}/{total} MiB {eta_formatted}",
        },
        Presets.shades_classic,
      )
    : null;

  open(name: string): Bar {
    const bars = this.#bars;
    const shown = name.length > nameWidth ? `…${name.slice(1 - nameWidth)}` : name.padEnd(nameWidth);
    const bar = bars?.create(1, 0, { name: shown });
    let doneBytes = 0;
    return {
      get doneBytes() {
        return doneBytes;
      },
      start(done, total) {
        doneBytes = done;
        bar?.start(toMib(total), toMib(done), { name: shown });
      },
      add(bytes) {
        doneBytes += bytes;
        bar?.update(toMib(doneBytes));
      },
      end() {
        if (bar) bars?.remove(bar);
      },
    };
  }

  close(): void {
    this.#bars?.stop();
  }
}

const toMib = (bytes: number) => Math.round((bytes / 1024 ** 2) * 10) / 10;
