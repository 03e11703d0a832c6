import { isAsyncIterable } from "@graphql-tools/utils";
import type { ExecutionResult } from "graphql";
import type { Answer } from "../graph.js";
import { holding } from "./subscription-places.js";

/**
 * The operations of one connection that run. graphql-ws forgets one as soon as its client completes it, and the next of the
 * same id with it, though both may run on: here each counts until it has ended, and all end with the connection.
 */
export class RunningOperations {
  /** With the stream of each that has one. */
  readonly #running = new Map<symbol, AsyncIterator<ExecutionResult> | null>();
  #isOver = false;

  get count(): number {
    return this.#running.size;
  }

  async run(operation: () => Promise<Answer>): Promise<Answer> {
    const id = Symbol();
    this.#running.set(id, null);
    const result = await holding(() => void this.#running.delete(id), operation);
    if (isAsyncIterable(result)) {
      this.#running.set(id, result);
      if (this.#isOver) void result.return?.();
    }
    return result;
  }

  /** The connection is gone, or read by nobody. */
  endAll(): void {
    this.#isOver = true;
    for (const stream of this.#running.values()) void stream?.return?.();
  }
}
