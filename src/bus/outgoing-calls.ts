/** How many calls of ours may wait for replies at a time. */

export interface CallRequest {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature?: string;
  readonly body?: readonly unknown[];
  /** Default 25 s, as everywhere in D-Bus; Infinity waits as long as the bus does. */
  readonly timeoutMs?: number;
  /** Sets the flag ALLOW_INTERACTIVE_AUTHORIZATION. */
  readonly interactive?: boolean;
}

/**
 * Outgoing calls that wait for a reply. The bus answers LimitsExceeded when there are too many (128
 * on some buses), so the rest waits here; and one service that hangs must not take every place.
 */
const maximumCalls = 100;
const maximumCallsToOne = 64;

/** Gives out places for outgoing calls. */
export class OutgoingCalls {
  readonly #inFlight = new Map<string, number>();
  #total = 0;
  /** By destination, in the order in which they are next. */
  readonly #waiting = new Map<string, Set<() => void>>();

  /**
   * Runs `start` when there is a place, at once or later; release() gives the place back.
   * @returns takes the call out of the queue; without effect once it has started
   */
  enter(destination: string, start: () => void): () => void {
    const waiting = this.#waiting.get(destination) ?? new Set();
    this.#waiting.set(destination, waiting.add(start));
    this.#next();
    return () => {
      waiting.delete(start);
      if (waiting.size === 0 && this.#waiting.get(destination) === waiting)
        this.#waiting.delete(destination);
    };
  }

  release(destination: string): void {
    const count = (this.#inFlight.get(destination) ?? 1) - 1;
    if (count === 0) this.#inFlight.delete(destination);
    else this.#inFlight.set(destination, count);
    this.#total--;
    this.#next();
  }

  #next(): void {
    while (this.#total < maximumCalls) {
      const next = [...this.#waiting].find(
        ([destination]) => (this.#inFlight.get(destination) ?? 0) < maximumCallsToOne,
      );
      if (next === undefined) return;
      const [destination, waiting] = next;
      const [start] = waiting;
      if (start === undefined) return;
      waiting.delete(start);
      // A destination that had a turn goes to the end of the queue.
      this.#waiting.delete(destination);
      if (waiting.size > 0) this.#waiting.set(destination, waiting);
      this.#inFlight.set(destination, (this.#inFlight.get(destination) ?? 0) + 1);
      this.#total++;
      start();
    }
  }
}
