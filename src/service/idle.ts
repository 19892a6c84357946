/**
 * Ends the service when nobody needs it: no caller that it knows is on the bus any more, and there is no
 * job, also none that ended a short time ago. The bus starts it again at the next call. A program that only
 * listens cannot be seen; one that has called is a caller until it leaves.
 *
 * No call is lost. While the name is ours, all calls come to us, and the bus delivers in order: with the
 * answer to ReleaseName, all calls that were sent to the name before are here. Later ones start the next
 * service.
 */

import { serviceName } from '../api/names.ts';
import type { ServiceConnection } from '../bus/connection.ts';
import type { Clock } from '../core/clock.ts';

/** What the end of an idle service has to know. */
export interface Occupation {
  readonly isIdle: () => boolean;
  /** Unfinished jobs, or ended ones that can still be read, or calls that may become jobs. */
  readonly hasJobs: () => boolean;
  /** Calls back at each event after which it may be. */
  readonly onLess: (look: () => void) => void;
}

export class IdleExit {
  readonly #connection: ServiceConnection;
  readonly #occupation: Pick<Occupation, 'isIdle'>;
  readonly #clock: Clock;
  readonly #lingerMs: number;
  #cancel: () => void = () => undefined;
  #end: () => void = () => undefined;
  /** Settles when the service is to end: the name is free, and nobody waits for an answer. */
  readonly ended = new Promise<void>((resolve) => (this.#end = resolve));
  /** The name was given away. Then systemd ends the service, too, and need not be obeyed before. */
  hasLeft = false;

  /** @param lingerMs how long it stays, as each start costs more than some calls */
  constructor(
    connection: ServiceConnection,
    occupation: Pick<Occupation, 'isIdle' | 'onLess'>,
    clock: Clock,
    lingerMs: number,
  ) {
    this.#connection = connection;
    this.#occupation = occupation;
    this.#clock = clock;
    this.#lingerMs = lingerMs;
    occupation.onLess(() => {
      this.#look();
    });
    this.#look();
  }

  #look(): void {
    this.#cancel();
    if (!this.#occupation.isIdle()) return;
    this.#cancel = this.#clock.after(this.#lingerMs, () => void this.#leave());
  }

  async #leave(): Promise<void> {
    try {
      // What is on its way to us is here afterwards.
      await this.#connection.sync();
      if (!this.#occupation.isIdle()) return;
      this.hasLeft = true;
      await this.#connection.releaseName(serviceName);
      if (this.#occupation.isIdle()) this.#end();
      else await this.#connection.requestName(serviceName);
    } catch (error) {
      // Somebody called at the last moment, and the next service has the name already: this one ends
      // when its own callers have left.
      this.#connection.log('leaving the bus', error);
    }
  }
}
