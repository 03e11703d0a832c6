import { MultiBar, Presets } from "cli-progress";
import { drawBars } from "../output.js";

export interface Bar {
  /** Bytes that this transfer has done so far. */
  readonly doneBytes: number;
  /** Says anew how far it is, where it goes on from. */
  start(doneBytes: number, totalBytes: number): void;
  add(bytes: number): void;
  end(): void;
}

const nameWidth = 40;
/** As a shell says it of what Ctrl-C ended. */
const interruptedCode = 130;

/** A bar for each transfer under way, where somebody looks: on a terminal's stderr. Elsewhere only the counting. */
export class Progress {
  readonly #bars = process.stderr.isTTY
    ? new MultiBar(
        {
          stream: process.stderr,
          clearOnComplete: true,
          hideCursor: true,
          // Its own way of leaving would not leave.
          gracefulExit: false,
          format: "{name} {bar} {percentage}% {value}/{total} MiB {eta_formatted}",
        },
        Presets.shades_classic,
      )
    : null;

  constructor() {
    if (!this.#bars) return;
    process.once("SIGINT", () => {
      this.close();
      process.exit(interruptedCode);
    });
  }

  open(name: string): Bar {
    const bars = this.#bars;
    if (bars) drawBars((line) => void bars.log(line));
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
    if (!this.#bars?.isActive) return;
    // What was to go above the bars and has not yet.
    this.#bars.update();
    this.#bars.stop();
    drawBars(null);
  }
}

const toMib = (bytes: number) => Math.round((bytes / 1024 ** 2) * 10) / 10;
