import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { subdirectories } from './control-files.ts';
import { GroupV1 } from './group-v1.ts';

/** Bound for the groups of one container that are counted, however many its guest creates. */
const groupsMax = 1000;
/** A count yields to other work after this time. */
const sliceMs = 2;
/** Rest per unit of work: all counting together takes at most 3 % of one processor ... */
const restShare = 32;
/** ... except for a burst of 0.3 s, such as when all containers are seen for the first time. */
const restSavedMs = 10_000;

export interface KillCount {
  /** Undefined if the control group has gone. */
  readonly kills: bigint | undefined;
  readonly groups: number;
}

/**
 * Counts OOM kills on cgroup v1, where a kill counts only in the control group of the killed process.
 * So it adds up all groups below a container's, top down; kills in groups beyond the bound are not
 * counted. Containers are counted one after the other.
 */
export class KillCounter {
  readonly #asked = new Map<string, Promise<KillCount>>();
  #last: Promise<unknown> = Promise.resolve();
  #restedAtMs = -Infinity;

  /** Counts the kills in a group and below. A count that still waits for its turn is shared. */
  count(directory: string): Promise<KillCount> {
    const known = this.#asked.get(directory);
    if (known !== undefined) return known;
    const count = this.#last.then(() => {
      this.#asked.delete(directory);
      return this.#walk(directory);
    });
    this.#asked.set(directory, count);
    this.#last = count.then(({ busyMs }) => this.#rest(busyMs));
    return count;
  }

  async #rest(busyMs: number): Promise<void> {
    const now = performance.now();
    this.#restedAtMs = Math.max(this.#restedAtMs, now) + busyMs * restShare;
    const ms = this.#restedAtMs - now - restSavedMs;
    if (ms > 0) await sleep(ms, undefined, { ref: false });
  }

  async #walk(directory: string): Promise<KillCount & { readonly busyMs: number }> {
    let kills: bigint | undefined;
    let busyMs = 0;
    let since = performance.now();
    const yieldTurn = async (): Promise<void> => {
      const spent = performance.now() - since;
      if (spent < sliceMs) return;
      busyMs += spent;
      await turn();
      since = performance.now();
    };
    const groups = [directory];
    // The list grows during the loop.
    for (const group of groups) {
      const own = killsIn(group);
      if (own !== undefined) kills = (kills ?? 0n) + own;
      await yieldTurn();
      if (groups.length >= groupsMax) continue;
      for (const below of subdirectories(group)) {
        groups.push(below);
        if (groups.length >= groupsMax) break;
        await yieldTurn();
      }
    }
    return { kills, groups: groups.length, busyMs: busyMs + performance.now() - since };
  }
}

/** Undefined if the group has just gone. */
function killsIn(group: string): bigint | undefined {
  try {
    return new GroupV1(group).oomControl().get('oom_kill');
  } catch {
    return undefined;
  }
}
