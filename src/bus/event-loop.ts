/**
 * The event loop is shared: neither one user's calls nor long work may hold up the others.
 */

/**
 * One call at a time, the callers' users one after the other. Between two calls the event loop looks
 * at its sockets, so that a flood of one user holds up the others for one call and not for all that
 * came with it.
 */
export class RoundRobin<Key> {
  /** Keys that wait, in the order in which they are next. */
  readonly #waiting = new Map<Key, (() => void)[]>();
  readonly #gate: (() => Promise<void> | undefined) | undefined;
  #isRunning = false;
  /** Who had the last turn. */
  #last: Key | undefined;

  /** @param gate answers what every turn has to wait for, if there is anything */
  constructor(gate?: () => Promise<void> | undefined) {
    this.#gate = gate;
  }

  get isWaitedFor(): boolean {
    return this.#isRunning;
  }

  /** Settles when it is the turn of this key; undefined when it is so at once. */
  next(key: Key): Promise<void> | undefined {
    if (!this.#isRunning && this.#gate?.() === undefined) {
      this.#isRunning = true;
      this.#last = key;
      setImmediate(this.#run);
      return undefined;
    }
    return new Promise((resolve) => {
      const own = this.#waiting.get(key);
      if (own === undefined) this.#waiting.set(key, [resolve]);
      else own.push(resolve);
      if (this.#isRunning) return;
      this.#isRunning = true;
      setImmediate(this.#run);
    });
  }

  readonly #run = (): void => {
    const closed = this.#gate?.();
    if (closed !== undefined) {
      void closed.then(this.#run);
      return;
    }
    const [first, second] = this.#waiting;
    const entry = second !== undefined && first?.[0] === this.#last ? second : first;
    if (entry === undefined) {
      this.#isRunning = false;
      return;
    }
    const [key, own] = entry;
    this.#last = key;
    this.#waiting.delete(key);
    const [start, ...others] = own;
    // A key that had a turn goes to the end of the queue.
    if (others.length > 0) this.#waiting.set(key, others);
    setImmediate(this.#run);
    start?.();
  };
}

/** How long work may hold the event loop, milliseconds. */
const sliceMs = 3;

/** Long work in slices: between them others have the event loop. */
export class TimeSlices {
  #since = performance.now();

  /** To be awaited now and then during the work. */
  async pause(): Promise<void> {
    if (performance.now() - this.#since < sliceMs) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#since = performance.now();
  }
}
