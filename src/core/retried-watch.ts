/** Watches through ports that are tried again until they work. */

import type { Clock } from './clock.ts';
import type { Unwatch } from './ports.ts';

const firstRetryMs = 1_000;
const longestRetryMs = 60_000;
/** How long the start waits for what is essential; a bus gives up on a service after 25 s. */
const firstAttemptMs = 15_000;

/** Takes a problem for the journal: what does not work, and why. */
export type ReportProblem = (what: string, error: unknown) => void;

/** Starts watches whose failures are reported. */
export class Watcher {
  readonly #clock: Clock;
  readonly reportProblem: ReportProblem;

  constructor(clock: Clock, reportProblem: ReportProblem) {
    this.#clock = clock;
    this.reportProblem = reportProblem;
  }

  /** @param what is watched, in words for the journal */
  watch(what: string, attempt: () => Promise<Unwatch>, attemptMs = firstAttemptMs): RetriedWatch {
    const onFailure = (error: unknown) => {
      this.reportProblem(`${what} cannot be watched`, error);
    };
    return new RetriedWatch(this.#clock, attempt, onFailure, attemptMs);
  }
}

/** Something watched through a port, tried again until it works. */
export class RetriedWatch {
  readonly #clock: Clock;
  readonly #attempt: () => Promise<Unwatch>;
  readonly #onFailure: (error: unknown) => void;
  #unwatch: Unwatch | undefined;
  #isStopped = false;
  #cancelRetry: (() => void) | undefined;
  /** Settles when the first attempt has worked, has failed, or takes too long. Never rejects. */
  readonly firstAttempt: Promise<void>;

  constructor(
    clock: Clock,
    attempt: () => Promise<Unwatch>,
    onFailure: (error: unknown) => void,
    firstAttemptMs: number,
  ) {
    this.#clock = clock;
    this.#attempt = attempt;
    this.#onFailure = onFailure;
    this.firstAttempt = new Promise((resolve) => {
      const cancel = clock.after(firstAttemptMs, resolve);
      void this.#try(firstRetryMs).then(() => {
        cancel();
        resolve();
      });
    });
  }

  async #try(retryMs: number): Promise<void> {
    try {
      const unwatch = await this.#attempt();
      if (this.#isStopped) await unwatch();
      else this.#unwatch = unwatch;
    } catch (error) {
      if (this.#isStopped) return;
      // Once is enough for the journal; what comes back is seen in the properties.
      if (retryMs === firstRetryMs) this.#onFailure(error);
      this.#cancelRetry = this.#clock.after(retryMs, () => {
        void this.#try(Math.min(retryMs * 2, longestRetryMs));
      });
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelRetry?.();
    const unwatch = this.#unwatch;
    this.#unwatch = undefined;
    try {
      await unwatch?.();
    } catch {
      // What cannot be told to stop is no longer listened to.
    }
  }
}
