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

interface Waiting {
  readonly destination: string;
  readonly start: () => void;
}

/** Gives out places for outgoing calls. */
export class OutgoingCalls {
  readonly #inFlight = new Map<string, number>();
  #total = 0;
  #waiting: Waiting[] = [];

  /**
   * Runs `start` when there is a place, at once or later; release() gives the place back.
   * @returns takes the call out of the queue; without effect once it has started
   */
  enter(destination: string, start: () => void): () => void {
    const waiting = { destination, start };
    this.#waiting.push(waiting);
    this.#next();
    return () => {
      this.#waiting = this.#waiting.filter((other) => other !== waiting);
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
      const index = this.#waiting.findIndex(
        ({ destination }) => (this.#inFlight.get(destination) ?? 0) < maximumCallsToOne,
      );
      const [waiting] = index < 0 ? [] : this.#waiting.splice(index, 1);
      if (waiting === undefined) return;
      const { destination, start } = waiting;
      this.#inFlight.set(destination, (this.#inFlight.get(destination) ?? 0) + 1);
      this.#total++;
      start();
    }
  }
}
