import { codeOf } from '../model/errno.ts';
import { leastOf, unlimited, wholePages } from '../model/memory-limit.ts';
import type { Held } from './figures.ts';
import { heldV1 } from './figures.ts';
import { writeFile } from './control-files.ts';
import type { GuestMemory, MemoryLimits, Probe, Reclaimed, Undo } from './guest-memory.ts';
import type { GroupV1 } from './group-v1.ts';
import { GuestGroups } from './guest-groups.ts';
import { readHostMemory } from './host-memory.ts';

/**
 * A guest's memory on cgroup v1. The kernel reclaims when a limit is lowered, so a trial lowers the
 * limit of the guest's group step by step. Meanwhile the OOM killer is off for the group: a process
 * that gets no memory waits until there is some.
 */
export class GuestV1 extends GuestGroups<GroupV1> implements GuestMemory {
  readonly version = 1;
  #killsArePrevented = false;

  held(swapLeft: bigint | undefined): Held {
    const stat = this.guest.stat();
    const swappable =
      stat.get('swappiness') === 0n ? 0n : leastOf(swapLeft, readHostMemory().swapFree);
    return heldV1(stat, swappable, this.guest.kernelUsage());
  }

  probe(): Probe {
    return {
      usage: this.guest.usage(),
      distressed: this.guest.oomControl().get('under_oom') !== 0n,
      stallUsec: this.unit.pressure()?.stallUsec,
    };
  }

  undo(): Undo[] {
    const killsAreOff = this.guest.oomControl().get('oom_kill_disable') ?? 0n;
    return [
      { path: this.guest.file('limit_in_bytes'), value: this.guest.limitText(this.guestLimit()) },
      // Restored after the limit, so that a waiting process gets memory instead of being killed.
      { path: this.guest.file('oom_control'), value: killsAreOff.toString() },
    ];
  }

  async #preventKills(): Promise<void> {
    if (this.#killsArePrevented) return;
    await writeFile(this.guest.file('oom_control'), '1');
    this.#killsArePrevented = true;
  }

  async reclaim(goal: bigint, step: bigint): Promise<Reclaimed> {
    await this.#preventKills();
    const usage = this.guest.usage();
    const next = usage - step > goal ? usage - step : goal;
    try {
      await this.guest.setLimit(wholePages(next));
      return 'some';
    } catch (error) {
      // EBUSY: the kernel found nothing more to reclaim and left the limit as it was.
      if (codeOf(error) === 'EBUSY') return 'nothing';
      throw error;
    }
  }

  async brake(goal: bigint): Promise<void> {
    await this.#preventKills();
    await this.guest.setLimit(wholePages(goal));
  }

  seal(limit: bigint): Promise<boolean> {
    // The trial's limit holds the guest until systemd has set the unit's limit.
    return Promise.resolve(this.unitUsage() <= limit);
  }

  async #setSum(sum: bigint, isDue: (now: bigint) => boolean): Promise<void> {
    const now = this.unit.sumLimit();
    // Without swap accounting there is no limit of the sum.
    if (now !== undefined && isDue(now)) await this.unit.setSumLimit(sum);
  }

  async setLimits(
    { memory, swap }: MemoryLimits,
    setMemory: () => Promise<void> = () => this.unit.setLimit(memory),
  ): Promise<void> {
    if (swap === undefined) {
      await setMemory();
      return;
    }
    // The kernel never accepts a limit of memory above that of the sum.
    const sum = memory === unlimited || swap === unlimited ? unlimited : memory + swap;
    await this.#setSum(sum, (now) => sum > now);
    await setMemory();
    await this.#setSum(sum, (now) => sum < now);
  }

  override async clearGuestLimit(): Promise<void> {
    if (this.guest.sumLimit() !== undefined) await this.guest.setSumLimit(unlimited);
    await super.clearGuestLimit();
  }
}
