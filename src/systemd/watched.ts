import { retryPause, systemdIsAway } from './away.ts';

/** How long to wait for systemd when it is off the bus, for example in a daemon-reexec. */
const awayMaxMs = 60_000;

/**
 * Something in systemd that is read after each change. Signals only say that something changed, so
 * readings are repeated until no change falls into a whole reading. Only such a reading is reported.
 * There is one reading at a time.
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

  get isReading(): boolean {
    return this.#reading !== undefined;
  }

  /** Reports nothing from now on. */
  end(): void {
    this.#isOver = true;
  }

  /** Reads again, because something may have changed. After a failure, the next change reads again. */
  noteChange(): void {
    this.readAfterChange().catch(() => undefined);
  }

  /** Like {@link noteChange}, but waits for the reading and throws what it throws. */
  readAfterChange(): Promise<void> {
    this.#changes++;
    return this.read();
  }

  /** Resolves when the current state has been reported; throws what the reading throws. */
  read(): Promise<void> {
    return (this.#reading ??= this.#readUntilQuiet());
  }

  /** Waits for the reading that is under way, if there is one. */
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
        // A change may be the cause, for example a unit that went away during the reading.
        const hasChanged = this.#changes !== changes;
        if ((!hasChanged && !systemdIsAway(error)) || Date.now() > end) {
          this.#reading = undefined;
          throw error;
        }
        if (!hasChanged) await retryPause();
        continue;
      }
      if (this.#changes !== changes) continue;
      // At once: a change from now on begins another reading.
      this.#reading = undefined;
      this.#tell(reading);
      return;
    }
  }

  #tell(reading: T): void {
    if (!this.#isOver) this.#report(reading);
  }
}
