/** Bounds how much is done at a time, for all users and for one. Users who wait take turns. */
export class FairLimiter {
  #free: number;
  readonly #atATimePerUid: number;
  readonly #running = new Map<number, number>();
  /** Users who wait, in the order in which they are next. */
  readonly #waiting = new Map<number, (() => void)[]>();

  constructor(atATime: number, atATimePerUid: number) {
    this.#free = atATime;
    this.#atATimePerUid = atATimePerUid;
  }

  async run<T>(uid: number, work: () => Promise<T>): Promise<T> {
    await new Promise<void>((resolve) => {
      const own = this.#waiting.get(uid);
      if (own) own.push(resolve);
      else this.#waiting.set(uid, [resolve]);
      this.#next();
    });
    try {
      return await work();
    } finally {
      this.#free += 1;
      const others = (this.#running.get(uid) ?? 1) - 1;
      if (others > 0) this.#running.set(uid, others);
      else this.#running.delete(uid);
      this.#next();
    }
  }

  #next(): void {
    while (this.#free > 0) {
      const uid = this.#nextUid();
      if (uid === undefined) return;
      const own = this.#waiting.get(uid) ?? [];
      const start = own.shift();
      // A user who had a turn goes to the end of the queue.
      this.#waiting.delete(uid);
      if (own.length > 0) this.#waiting.set(uid, own);
      this.#free -= 1;
      this.#running.set(uid, (this.#running.get(uid) ?? 0) + 1);
      start?.();
    }
  }

  #nextUid(): number | undefined {
    for (const uid of this.#waiting.keys()) {
      if ((this.#running.get(uid) ?? 0) < this.#atATimePerUid) return uid;
    }
    return undefined;
  }
}
