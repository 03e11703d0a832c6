import { isAsyncIterable } from "@graphql-tools/utils";
import type { ExecutionResult } from "graphql";
import type { Answer } from "../graph.js";

/**
 * The operations of one connection that run. graphql-ws forgets one as soon as its client completes it, and the next of the
 * same id with it, though both may run on: here each counts until it has ended, and all end with the connection.
 */
export class RunningOperations {
  readonly #streams = new Set<AsyncIterator<ExecutionResult>>();
  #count = 0;
  #isOver = false;

  get count(): number {
    return this.#count;
  }

  async run(operation: () => Promise<Answer>): Promise<Answer> {
    this.#count++;
    const ended = () => {
      this.#count--;
    };
    try {
      const result = await operation();
      if (isAsyncIterable(result)) return this.#follow(result[Symbol.asyncIterator](), ended);
      ended();
      return result;
    } catch (error) {
      ended();
      throw error;
    }
  }

  /** The connection is gone, or read by nobody. */
  endAll(): void {
    this.#isOver = true;
    for (const stream of this.#streams) void stream.return?.();
  }

  #follow(events: AsyncIterator<ExecutionResult>, ended: () => void): AsyncIterableIterator<ExecutionResult> {
    const leave = () => {
      if (this.#streams.delete(stream)) ended();
    };
    const stream: AsyncIterableIterator<ExecutionResult> = {
      [Symbol.asyncIterator]: () => stream,
      next: async () => {
        try {
          const event = await events.next();
          if (event.done) leave();
          return event;
        } catch (error) {
          leave();
          throw error;
        }
      },
      return: async () => {
        leave();
        await events.return?.();
        return { done: true, value: undefined };
      },
    };
    this.#streams.add(stream);
    if (this.#isOver) void stream.return?.();
    return stream;
  }
}
