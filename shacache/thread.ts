import { Worker } from "node:worker_threads";

interface Asked<Answer> {
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
}

/** A thread that answers each message in order. It does not keep the process. */
export class Thread<Message, Answer> {
  readonly #asked: Asked<Answer>[] = [];
  readonly #worker: Worker;

  /** `name`: of its file here, without the ending. Under a loader of sources it is the source that is there. */
  constructor(name: string, onEnd: () => void) {
    this.#worker = new Worker(new URL(`./${name}${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url));
    this.#worker.unref();
    this.#worker.on("message", (answer: Answer) => this.#asked.shift()?.resolve(answer));
    const end = (error: Error) => {
      for (const { reject } of this.#asked.splice(0)) reject(error);
      onEnd();
    };
    this.#worker.on("error", (error) => end(error as Error));
    this.#worker.on("exit", () => end(new Error(`A thread (${name}) has ended.`)));
  }

  ask(message: Message): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ resolve, reject });
      this.#worker.postMessage(message);
    });
  }
}
