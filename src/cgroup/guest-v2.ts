import { setTimeout as sleep } from 'node:timers/promises';
import { leastOf, unlimited, wholePages } from '../model/memory-limit.ts';
import { writeFile } from './control-files.ts';
import { freezeFile, isFrozen, readFreeze } from './freezer.ts';
import type { Held } from './figures.ts';
import { heldV2 } from './figures.ts';
import type { GuestMemory, MemoryLimits, Probe, Reclaimed, Undo } from './guest-memory.ts';
import type { GroupV2 } from './group-v2.ts';
import { GuestGroups } from './guest-groups.ts';
import { readHostMemory } from './host-memory.ts';

const freezeTimeoutMs = 300;

/**
 * A guest's memory on cgroup v2. The kernel reclaims on request, without killing. memory.high is the
 * brake, which slows down a guest that uses more. systemd knows every limit.
 */
export class GuestV2 extends GuestGroups<GroupV2> implements GuestMemory {
  readonly version = 2;
  #goal = unlimited;

  held(swapLeft: bigint | undefined): Held {
    return heldV2(this.guest.stat(), leastOf(swapLeft, readHostMemory().swapFree));
  }

  probe(): Probe {
    const usage = this.guest.usage();
    return {
      usage,
      // The brake slows down a guest that uses more, but does not stop it.
      distressed: usage > this.#goal && usage - this.#goal > this.#goal / 32n,
      stallUsec: this.guest.pressure()?.stallUsec,
    };
  }

  undo(): Undo[] {
    return [{ path: this.guest.file('high'), value: this.guest.limitText(this.guest.high()) }];
  }

  async reclaim(goal: bigint, step: bigint, hold: boolean): Promise<Reclaimed> {
    const usage = this.guest.usage();
    const excess = usage - goal;
    if (excess <= 0n) return 'some';
    if (hold) {
      await this.guest.setHigh(wholePages(excess < step ? goal : usage - step));
      return 'some';
    }
    return (await this.guest.reclaim(excess < step ? excess : step)) ? 'some' : 'nothing';
  }

  async brake(goal: bigint): Promise<void> {
    this.#goal = goal;
    await this.guest.setHigh(wholePages(goal));
  }

  async seal(limit: bigint, note: (changes: readonly Undo[]) => void): Promise<boolean> {
    // Freeze the unit's group, so that lxc-freeze(1) on the guest's group is not disturbed.
    const { directory } = this.unit;
    const file = freezeFile(directory);
    const before = readFreeze(directory);
    note([{ path: file, value: before }, this.undoUnitLimit()]);
    await writeFile(file, '1');
    try {
      const end = Date.now() + freezeTimeoutMs;
      // A process that waits for a disk freezes later; the brake holds it meanwhile.
      while (!isFrozen(directory) && Date.now() < end) await sleep(1);
      if (this.unitUsage() > limit) return false;
      // Bypass systemd, whose answer may take longer than a guest should be frozen.
      await this.unit.setLimit(limit);
      return true;
    } finally {
      await writeFile(file, before);
    }
  }

  async setLimits(
    { memory, swap }: MemoryLimits,
    setBoth: () => Promise<void> = async () => {
      await this.unit.setLimit(memory);
      const isAccounted = this.swapLimit() !== undefined;
      if (swap !== undefined && isAccounted) await this.unit.setSwapLimit(swap);
    },
  ): Promise<void> {
    await setBoth();
  }
}
