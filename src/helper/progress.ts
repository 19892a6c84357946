/** A client wants to see progress, not every step. */
const progressEveryMs = 100;

/** Writes progress lines to the client of a request. */
export class Progress {
  readonly #left: () => void;
  #phase = '';
  #writtenAt = 0;

  /** @param left is called where the client has gone */
  constructor(left: () => void) {
    this.#left = left;
  }

  /** @param fraction of 1, of what is to be done in this phase */
  report(phase: string, fraction: number): void {
    const now = Date.now();
    if (phase === this.#phase && now - this.#writtenAt < progressEveryMs) return;
    this.#phase = phase;
    this.#writtenAt = now;
    const line = JSON.stringify({ progress: Math.round(fraction * 100) / 100, phase });
    process.stdout.write(`${line}\n`, (error) => {
      if (error) this.#left();
    });
  }
}
