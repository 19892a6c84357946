/**
 * Looks at guests for callers. Looks are shared, and what one has seen is good for a moment.
 */

import type { Clock } from './clock.ts';
import type { HostState } from './host-state.ts';
import type { GuestLook, HelperPort } from './ports.ts';
import { portionsOf, SharedLook } from './shared-look.ts';

/** How long what was seen is answered again, milliseconds. */
const freshMs = 1_000;

type Looks = ReadonlyMap<string, GuestLook>;

interface Seen {
  /** Another guest than the one that was seen is looked at again. */
  readonly leader: number;
  readonly look: GuestLook;
}

export class GuestLooks {
  readonly #host: HostState;
  readonly #helper: Pick<HelperPort, 'look'>;
  readonly #clock: Clock;
  readonly #fresh = new Map<string, Seen>();
  readonly #shared = new SharedLook((wanted) => this.#ask(wanted));

  constructor(host: HostState, helper: Pick<HelperPort, 'look'>, clock: Clock) {
    this.#host = host;
    this.#helper = helper;
    this.#clock = clock;
  }

  /**
   * What is seen of containers' guests; nothing of one that does not run. Rejects with LockerdError where
   * the helper does.
   */
  async of(containers: readonly string[]): Promise<Looks> {
    const { found, unseen } = this.#known(containers);
    if (unseen.length === 0) return found;
    const looks = await this.#shared.join(unseen);
    for (const name of unseen) {
      const look = looks.get(name);
      if (look !== undefined) found.set(name, look);
    }
    return found;
  }

  /** What was seen a moment ago, and which others run. */
  #known(names: Iterable<string>): { found: Map<string, GuestLook>; unseen: string[] } {
    const found = new Map<string, GuestLook>();
    const unseen: string[] = [];
    for (const name of names) {
      const leader = this.#leaderOf(name);
      if (leader === 0) continue;
      const seen = this.#fresh.get(name);
      if (seen?.leader === leader) found.set(name, seen.look);
      else unseen.push(name);
    }
    return { found, unseen };
  }

  #leaderOf(name: string): number {
    return this.#host.container(name)?.leader ?? 0;
  }

  async #ask(wanted: readonly string[]): Promise<Looks> {
    // The look that has just ended may have seen some of them.
    const { found: all, unseen: names } = this.#known(wanted);
    for (const part of portionsOf(names)) {
      const leaders = new Map(part.map((name) => [name, this.#leaderOf(name)]));
      for (const [name, look] of await this.#helper.look(part)) {
        const leader = leaders.get(name);
        if (leader === undefined) continue;
        all.set(name, look);
        const seen = { leader, look };
        this.#fresh.set(name, seen);
        this.#clock.after(freshMs, () => {
          if (this.#fresh.get(name) === seen) this.#fresh.delete(name);
        });
      }
    }
    return all;
  }
}
