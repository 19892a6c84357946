import { retryPause, systemdIsAway } from './away.ts';

/** How long to wait for systemd when it is off the bus, as while it executes itself anew. */
const awayMaxMs = 60_000;

/**
 * Something of systemd's that is read after each change. Signals only say that something changed,
 * so each change is noted and what changed is read until it was quiet during a whole reading. Only
 * such a reading is reported. There is one reading at a time.
 */
export class Watched<T> {
  readonly #read: () => Promise<T>;
  readonly #report: (reading: T) => void;
  #changes = 0;
  #reading: Promise<void> | undefined;
  #isOver = false;

  constructor(read: () => Promise<T>, report: (reading: T) => void) {
    this.#read = read;
    this.#report = report;
  }

  /** Reports nothing from now on. */
  end(): void {
    this.#isOver = true;
  }

  /** Something may have changed, so that it is read again. A failure is left to the next change. */
  noteChange(): void {
    this.readAfterChange().catch(() => undefined);
  }

  /** As {@link noteChange}, for those who wait for the reading. Throws what the reading throws. */
  readAfterChange(): Promise<void> {
    this.#changes++;
    return this.read();
  }

  /** Settles when what is there now has been reported. */
  read(): Promise<void> {
    this.#reading ??= this.#readUntilQuiet().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  /** Settles with the reading that is under way, if there is one. */
  async whenRead(): Promise<void> {
    await this.#reading;
  }

  async #readUntilQuiet(): Promise<void> {
    const end = Date.now() + awayMaxMs;
    while (!this.#isOver) {
      const changes = this.#changes;
      let reading: T;
      try {
        reading = await this.#read();
      } catch (error) {
        // A change meanwhile may be the reason, such as a unit that went while it was read.
        const hasChanged = this.#changes !== changes;
        if ((!hasChanged && !systemdIsAway(error)) || Date.now() > end) throw error;
        if (!hasChanged) await retryPause();
        continue;
      }
      if (this.#changes !== changes) continue;
      this.#tell(reading);
      return;
    }
  }

  #tell(reading: T): void {
    if (!this.#isOver) this.#report(reading);
  }
}
