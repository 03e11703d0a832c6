import { isAsyncIterable } from "@graphql-tools/utils";
import type { ExecutionResult } from "graphql";
import type { Caller } from "../../common/identity.js";
import type { Answer } from "../graph.js";

/** Gives a place back; again does nothing. */
export type Place = () => void;

/** How many subscriptions each caller has open, over all its connections to this gateway. */
export class SubscriptionPlaces {
  readonly #most: number;
  readonly #taken = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  get message(): string {
    return `One caller has up to ${this.#most} subscriptions at a time.`;
  }

  /** Null when the caller has as many as it may. */
  take(caller: Caller): Place | null {
    const name = caller.kind === "administrator" ? caller.kind : `${caller.kind} ${caller.project} ${caller.subject}`;
    const taken = this.#taken.get(name) ?? 0;
    if (taken >= this.#most) return null;
    this.#taken.set(name, taken + 1);
    let isTaken = true;
    return () => {
      if (!isTaken) return;
      isTaken = false;
      const left = (this.#taken.get(name) ?? 1) - 1;
      if (left > 0) this.#taken.set(name, left);
      else this.#taken.delete(name);
    };
  }
}

/** Opens a stream that holds a place until it ends, breaks, is left, or does not open at all. */
export async function holding(giveBack: Place, open: () => Promise<Answer>): Promise<Answer> {
  try {
    const opened = await open();
    if (isAsyncIterable(opened)) return givingBack(giveBack, opened[Symbol.asyncIterator]());
    giveBack();
    return opened;
  } catch (error) {
    giveBack();
    throw error;
  }
}

function givingBack(giveBack: Place, events: AsyncIterator<ExecutionResult>): AsyncIterableIterator<ExecutionResult> {
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    async next() {
      try {
        const event = await events.next();
        if (event.done) giveBack();
        return event;
      } catch (error) {
        giveBack();
        throw error;
      }
    },
    async return() {
      giveBack();
      await events.return?.();
      return { done: true, value: undefined };
    },
  };
}
