/**
 * How many incoming calls may be without an answer. Each caller has a few places of its own, so that
 * nobody can keep the others out by taking all the shared ones. What a user may have of jobs and
 * authorizations is another quota, and not the bus's.
 */

import { setMaxListeners } from 'node:events';

export interface CallLimits {
  /** Calls of one connection at a time; the system bus lets 128 wait. */
  readonly callsPerSender: number;
  /** Calls beyond the places of their callers' own. */
  readonly sharedCalls: number;
}

export const defaultLimits: CallLimits = { callsPerSender: 128, sharedCalls: 1024 };

/** Places of each caller's own. */
const ownPlaces = 4;

/** Whether a caller is still on the bus. A signal is made only for who asks for it: it is costly. */
export class Presence {
  #hasLeft = false;
  #controller: AbortController | undefined;

  get hasLeft(): boolean {
    return this.#hasLeft;
  }

  /** Fires when the caller leaves the bus. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      // Any number of handlers may wait for the same caller to leave.
      setMaxListeners(0, this.#controller.signal);
      if (this.#hasLeft) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  leave(): void {
    this.#hasLeft = true;
    this.#controller?.abort();
  }
}

interface Caller {
  calls: number;
  readonly presence: Presence;
}

export class CallQuota {
  readonly #limits: CallLimits;
  readonly #callers = new Map<string, Caller>();
  #shared = 0;

  constructor(limits: CallLimits) {
    this.#limits = limits;
  }

  /**
   * Lets a call in.
   * @returns undefined when there is no place; else whether the caller is there
   */
  enter(sender: string): Presence | undefined {
    const caller = this.#callers.get(sender) ?? { calls: 0, presence: new Presence() };
    if (caller.calls >= this.#limits.callsPerSender) return undefined;
    const shared = caller.calls >= ownPlaces;
    if (shared && this.#shared >= this.#limits.sharedCalls) return undefined;
    if (shared) this.#shared++;
    caller.calls++;
    this.#callers.set(sender, caller);
    return caller.presence;
  }

  leave(sender: string): void {
    const caller = this.#callers.get(sender);
    if (caller === undefined) return;
    if (caller.calls > ownPlaces) this.#shared--;
    if (--caller.calls === 0) this.#callers.delete(sender);
  }

  /** The caller left the bus; its calls go on until their handlers end. */
  gone(sender: string): void {
    this.#callers.get(sender)?.presence.leave();
  }

  allGone(): void {
    for (const { presence } of [...this.#callers.values()]) presence.leave();
  }
}
